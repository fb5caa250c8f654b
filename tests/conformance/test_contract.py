"""Every registered method and variant keeps the contract."""

from __future__ import annotations

from functools import cache

import pytest

from harness.conformance.registry import all_checks
from harness.conformance.runner import look
from harness.conformance.scenarios import Scenarios
from harness.conformance.subject import MethodUnderTest
from methods.registry import expanded, method_named

ROWS = expanded(["all"])
CHECKS = all_checks()


@cache
def observations(row):
    """Computed once for all checks of a row; what was seen of the row before is let go."""
    observations.cache_clear()
    method, _ = method_named(row)
    return Scenarios(MethodUnderTest(method, row.partition(":")[2]))


def part(check):
    """Checks are run by the part that they are about; slow ones by themselves."""
    return f"{check.look.__module__.rpartition('.')[2]}{' slow' * check.slow}"


PARTS = {part(check): [] for check in CHECKS.values()}
for each in CHECKS.values():
    PARTS[part(each)].append(each)
CASES = [
    pytest.param(row, checks, id=f"{row}-{name}", marks=[pytest.mark.slow] if "slow" in name else [])
    for row in ROWS
    for name, checks in PARTS.items()
]


@pytest.mark.parametrize(("row", "checks"), CASES)
def test_contract(row, checks):
    outcomes = [look(check, observations(row)) for check in checks]
    broken = [f"{one.check.id} {one.state}: {one.seen}. {one.check.hint}" for one in outcomes if not one.good]
    assert not broken, "\n".join(broken)


def test_there_are_about_forty_checks_each_explained():
    assert len(CHECKS) >= 40
    for check in CHECKS.values():
        assert check.reason.endswith(".")
        assert check.hint.endswith(".")
        assert check.look.__doc__


def test_every_method_has_rows():
    assert {"lora", "full-ft", "replay", "ewc", "ewc:weight-space", "lwf", "kore", "kore:unfrozen-a"} <= set(ROWS)
