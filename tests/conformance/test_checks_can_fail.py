"""For each check a method that fails it, and known exceptions that are none."""

from __future__ import annotations

import pytest

from benchmarks.errors import UserError
from harness.conformance.lifecycle import calling
from harness.conformance.registry import HookError, all_checks
from harness.conformance.runner import look, run
from harness.conformance.scenarios import Scenarios
from harness.conformance.subject import MethodUnderTest
from helpers import broken_training  # noqa: F401  (adds its methods to CONTROLS)
from helpers.broken_methods import CONSEQUENCES, CONTROLS, VARIANTS, Sound
from methods.base import InjectionMethod, Variant
from methods.registry import load_file, registered

CHECKS = all_checks()
# Torch's place is taken by something smaller: to import torch itself takes seconds.
FILES = {
    "import-pure": "open('left.txt', 'w').close()",
    "import-light": "import sys; sys.modules.setdefault('torch', sys)",
}
PLUGIN = "from methods.base import InjectionMethod\n{}\nclass Idea(InjectionMethod):\n    name = '{}'\n"


@pytest.fixture
def registry_kept(monkeypatch):
    from methods import base

    monkeypatch.setattr(base, "METHODS", dict(base.METHODS))


def subject_of(check):
    return MethodUnderTest(CONTROLS[check], VARIANTS.get(check, ""))


def test_every_check_has_a_method_that_fails_it():
    assert CONTROLS.keys() | FILES.keys() == CHECKS.keys()
    assert not {kind.name for kind in CONTROLS.values()} & registered().keys()


SLOW = [pytest.param(name, marks=[pytest.mark.slow] if CHECKS[name].slow else []) for name in CONTROLS]


@pytest.mark.parametrize("name", SLOW)
def test_the_check_fails(name):
    assert look(CHECKS[name], Scenarios(subject_of(name))).state == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTROLS)
def test_no_other_check_fails(name):
    failed = {outcome.check.id: outcome.seen for outcome in run(subject_of(name)) if outcome.state == "failed"}
    assert failed.keys() == {name} | CONSEQUENCES.get(name, set()), failed


def test_a_crash_is_told_with_its_place():
    wanted = r"prepare raised ValueError: no \(test_checks_can_fail.py, line \d+\)"
    with pytest.raises(HookError, match=wanted), calling("prepare"):
        raise ValueError("no")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_does_too_much_when_imported(name, tmp_path, monkeypatch, registry_kept):
    monkeypatch.chdir(tmp_path)
    for stem, line, state in (("sound_file", "", "passed"), ("unsound_file", FILES[name], "failed")):
        path = tmp_path / f"{stem}_{name.replace('-', '_')}.py"
        path.write_text(PLUGIN.format(line, f"{stem.replace('_', '-')}-{name}"))
        load_file(path)
        method = registered()[f"{stem.replace('_', '-')}-{name}"]
        assert look(CHECKS[name], Scenarios(MethodUnderTest(method))).state == state


def test_a_variant_of_an_unknown_setting_is_told():
    kind = type("Odd", (Sound,), {"variants": {"big": Variant({"rnk": 8}, "big")}})
    seen = look(CHECKS["variant-differs"], Scenarios(MethodUnderTest(kind, "big")))
    assert seen.state == "failed"
    assert "sets 'rnk', which is no setting" in seen.seen
    assert "did you mean 'rank'" in seen.seen


def excused(check, kind):
    return type("Excused", (kind,), {"expected_failures": {check: "we know"}, "name": ""})


def test_a_known_exception_is_excused_and_one_that_does_not_fail_is_not():
    seen = Scenarios(MethodUnderTest(excused("summarised", CONTROLS["summarised"])))
    assert look(CHECKS["summarised"], seen).state == "known"
    seen = Scenarios(MethodUnderTest(excused("summarised", Sound)))
    assert look(CHECKS["summarised"], seen).state == "failed"
    seen = Scenarios(MethodUnderTest(excused("variant-differs", Sound)))
    assert look(CHECKS["variant-differs"], seen).state == "failed", "a check that says nothing needs no exception"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"penalties": lambda self, model, batch, logits: None}, "did you mean 'penalty'"),
        ({"export_stage": lambda self, model: {}}, "did you mean 'export_stage_state'"),
        ({"varients": {}}, "did you mean 'variants'"),
        ({"penalty": lambda self, model: None}, "called with self, model, batch, logits"),
        ({"penalty": 0.5}, "must be a plain function"),
    ],
)
def test_a_misspelt_or_misshapen_hook_is_refused_when_it_is_defined(body, complaint):
    with pytest.raises(UserError, match=complaint):
        type("Misspelt", (InjectionMethod,), body)
    type("Helped", (InjectionMethod,), {"_penalties": lambda self: None, "prune": lambda self: None})  # control
