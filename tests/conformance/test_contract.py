"""Every registered method and variant keeps the contract."""

from __future__ import annotations

from functools import cache

import pytest

from harness.contract.checks import all_checks
from harness.contract.observations import Observations
from harness.contract.run import look
from harness.contract.subject import Subject
from methods.catalogue import expanded, method_named

ROWS = expanded(["all"])
CHECKS = all_checks()


@cache
def observations(row):
    """Computed once for all checks of a row; what was seen of the row before is let go."""
    observations.cache_clear()
    method, _ = method_named(row)
    return Observations(Subject(method, row.partition(":")[2]))


CASES = [
    pytest.param(row, check, id=f"{row}-{check.id}", marks=[pytest.mark.slow] if check.slow else [])
    for row in ROWS
    for check in CHECKS.values()
]


@pytest.mark.parametrize(("row", "check"), CASES)
def test_contract(row, check):
    outcome = look(check, observations(row))
    assert outcome.good, f"{row} {outcome.state}: {outcome.seen}. {check.reason} {check.mend}"


def test_there_are_about_forty_checks_each_explained():
    assert len(CHECKS) >= 40
    for check in CHECKS.values():
        assert check.reason.endswith(".")
        assert check.mend.endswith(".")
        assert check.look.__doc__


def test_every_method_has_rows():
    assert {"lora", "full-ft", "replay", "ewc", "ewc:weight-space", "lwf", "kore", "kore:unfrozen-a"} <= set(ROWS)
