"""Run checks on a method and collect the outcomes."""

from __future__ import annotations

from harness.conformance.checks import CHECKS
from harness.conformance.errors import NotApplicable
from harness.conformance.outcome import CheckOutcome, outcome_of
from harness.conformance.registry import Check
from harness.conformance.scenarios import Scenarios
from harness.conformance.subject import MethodUnderTest


def run_checks(subject: MethodUnderTest, *, slow: bool = True) -> list[CheckOutcome]:
    """Run all checks on a method or variant.

    Args:
        subject: The method or variant.
        slow: Whether to run checks that take seconds.
    """
    scenarios = Scenarios(subject)
    return [run_check(check, scenarios) for check in CHECKS.values() if slow or not check.slow]


def run_check(check: Check[Scenarios], scenarios: Scenarios) -> CheckOutcome:
    """Run one check. A failure that is declared but does not occur is a failure too."""
    outcome = outcome_of(check, lambda: _run(check, scenarios))
    scenarios.attempt("lifecycle")
    expected = {} if "lifecycle" in scenarios.failures else scenarios.lifecycle.method.expected_failures
    reason = expected.get(check.id, "")
    if not reason or outcome.state == "inconclusive":
        return outcome
    if outcome.state == "failed":
        return CheckOutcome(check, "expected failure", f"{reason} ({outcome.detail})")
    return CheckOutcome(
        check, "failed", f"expected_failures declares it ({reason}), but it does not fail: remove it there"
    )


def _run(check: Check[Scenarios], scenarios: Scenarios) -> None:
    if check.training and not scenarios.subject.method.trains:
        raise NotApplicable("it trains nothing")
    check.function(scenarios)
