"""Every registered method and variant keeps the contract."""

from __future__ import annotations

import pytest

from harness.conformance import parametrize_with_checks
from harness.conformance.checks import CHECKS
from helpers.every_row import EVERY_ROW
from methods import base
from methods.registry import expand_names

DECLARATIONS = ("metadata", "settings")
"""The checks that run nothing. The others are slow tests but for the methods of the paper's tables."""
PAPER = ("kore", "full-ft", "lora", "replay", "ewc", "lwf", "moelora", "o-lora", "sefe")


def cases():
    """Every row and check."""
    for case in parametrize_with_checks(*EVERY_ROW, slow_marks=[pytest.mark.slow]).args[1]:
        subject, run_check = case.values
        (check,) = run_check.args
        is_quick = subject.name in PAPER or check.function.__module__.endswith(DECLARATIONS)
        yield case if is_quick else pytest.param(*case.values, id=case.id, marks=pytest.mark.slow)


@pytest.mark.parametrize(("method", "check"), list(cases()))
def test_contract(method, check):
    check(method)


def test_there_are_about_forty_checks_each_explained():
    assert len(CHECKS) >= 40
    for check in CHECKS.values():
        assert check.reason.endswith(".")
        assert check.hint.endswith(".")
        assert check.function.__doc__


def test_every_method_has_rows():
    rows = expand_names(["all-variants"])
    assert {"lora", "full-ft", "replay", "ewc", "ewc:weight-space", "lwf", "kore", "kore:unfrozen-a"} <= set(rows)
    assert {"kore:projected-a", "golden-context", "retrieval", "retrieval:text", "in-context"} <= set(rows)
    assert {"lora-null", "lora-null:v2", "corda", "astra", "astra:ipm"} <= set(rows)
    assert {"oplora", "nusa-cl", "osf", "oft", "oft:v2", "lapael", "sdft", "memit", "memit:facts"} <= set(rows)
    assert {"adept", "adept:equal-rates", "thanora", "sr-ki", "sr-ki:unsupervised"} <= set(rows)


def test_a_failed_check_of_a_plugin_raises_with_its_reason_and_hint(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "METHODS", dict(base.METHODS))
    (tmp_path / "idea.py").write_text(
        "from methods.base import InjectionMethod\nclass Idea(InjectionMethod):\n    name = 'undocumented-idea'\n"
    )
    _, cases = parametrize_with_checks("undocumented-idea", plugin=tmp_path / "idea.py").args
    assert len(cases) == len(CHECKS)
    method, check = next(case.values for case in cases if case.id == "undocumented-idea-check_docstring")
    with pytest.raises(AssertionError, match=r"the docstring has no 'Paper:'.* Readers need .* Hint: Give the class"):
        check(method)
