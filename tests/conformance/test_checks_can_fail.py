"""For each check a method that fails it; expected failures that occur and that do not."""

from __future__ import annotations

import pytest

from benchmarks.errors import UserError
from harness.conformance.checks import CHECKS
from harness.conformance.errors import HookError, hook_errors
from harness.conformance.runner import run_check, run_checks
from harness.conformance.scenarios import Scenarios
from harness.conformance.subject import MethodUnderTest
from helpers import broken_training  # noqa: F401  (adds its methods to CONTROLS)
from helpers.broken_methods import CONSEQUENCES, CONTROLS, VARIANTS, Sound
from methods.base import InjectionMethod, Variant
from methods.registry import load_file, registered

# Another module takes the place of torch, whose import takes seconds.
FILES = {
    "check_import_side_effects": "open('left.txt', 'w').close()",
    "check_import_without_torch": "import sys; sys.modules.setdefault('torch', sys)",
}
PLUGIN = "from methods.base import InjectionMethod\n{}\nclass Idea(InjectionMethod):\n    name = '{}'\n"


@pytest.fixture
def restored_registry(monkeypatch):
    from methods import base

    monkeypatch.setattr(base, "METHODS", dict(base.METHODS))


def subject_of(name):
    return MethodUnderTest(CONTROLS[name], VARIANTS.get(name, ""))


def test_every_check_has_a_method_that_fails_it():
    assert CONTROLS.keys() | FILES.keys() == CHECKS.keys()
    assert not {kind.name for kind in CONTROLS.values()} & registered().keys()


EXAMPLES = [name for name in CONTROLS if CHECKS[name].function.__module__.endswith(("metadata", "settings", "export"))]
"""The slow test has all checks."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_check_fails(name):
    assert run_check(CHECKS[name], Scenarios(subject_of(name))).state == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTROLS)
def test_no_other_check_fails(name):
    failed = {outcome.check.id: outcome.detail for outcome in run_checks(subject_of(name)) if outcome.state == "failed"}
    assert failed.keys() == {name} | CONSEQUENCES.get(name, set()), failed


def test_a_crash_is_reported_with_its_place():
    message = r"prepare raised ValueError: no \(test_checks_can_fail.py, line \d+\)"
    with pytest.raises(HookError, match=message), hook_errors("prepare"):
        raise ValueError("no")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_does_too_much_when_imported(name, tmp_path, monkeypatch, restored_registry):
    monkeypatch.chdir(tmp_path)
    for stem, line, state in (("sound_file", "", "passed"), ("unsound_file", FILES[name], "failed")):
        path = tmp_path / f"{stem}_{name}.py"
        method_name = path.stem.replace("_", "-")
        path.write_text(PLUGIN.format(line, method_name))
        load_file(path)
        method = registered()[method_name]
        assert run_check(CHECKS[name], Scenarios(MethodUnderTest(method))).state == state


def test_a_variant_of_an_unknown_setting_is_reported():
    kind = type("Odd", (Sound,), {"variants": {"big": Variant({"rnk": 8}, "big")}})
    outcome = run_check(CHECKS["check_variant_differs"], Scenarios(MethodUnderTest(kind, "big")))
    assert outcome.state == "failed"
    assert "sets 'rnk', which is not a setting" in outcome.detail
    assert "did you mean 'rank'" in outcome.detail


def excused(check, kind):
    return type("Excused", (kind,), {"expected_failures": {check: "we know"}, "name": ""})


def test_a_loss_that_depends_on_the_cut_is_found():
    class PerBatch(Sound):
        def loss(self, model, batch, logits, targets):
            total, tokens = super().loss(model, batch, logits, targets)
            return total / max(tokens, 1), min(tokens, 1)

    scenarios = Scenarios(MethodUnderTest(PerBatch))
    found = {name: run_check(CHECKS[name], scenarios).state for name in ("check_loss_adds_up", "check_docstring")}
    assert found["check_loss_adds_up"] == "failed"
    assert run_check(CHECKS["check_gradient_accumulation"], scenarios).state == "failed"


def test_an_expected_failure_that_does_not_occur_is_a_failure():
    def state(check, kind):
        return run_check(CHECKS[check], Scenarios(MethodUnderTest(excused(check, kind)))).state

    assert state("check_summary_and_paper", CONTROLS["check_summary_and_paper"]) == "expected failure"
    assert state("check_summary_and_paper", Sound) == "failed"
    assert state("check_variant_differs", Sound) == "failed", "a check that does not apply cannot fail"


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
