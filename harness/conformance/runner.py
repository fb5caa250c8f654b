"""Run the contract on a method, and say how it fared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from harness.conformance.registry import Check, CheckFailed, Inconclusive, NotApplicable, all_checks
from harness.conformance.scenarios import Scenarios
from harness.conformance.subject import MethodUnderTest

State = Literal["passed", "failed", "unreached", "known", "not applicable"]


@dataclass(frozen=True)
class CheckOutcome:
    """How a method fared in one check.

    Attributes:
        check: Which.
        state: ``known`` is a failure that the method declares, with its reason; ``unreached`` means that something else
            went wrong first.
        seen: What was found, or why nothing was.
    """

    check: Check
    state: State
    seen: str = ""

    @property
    def good(self) -> bool:
        """Whether the method keeps this promise, or need not."""
        return self.state in ("passed", "known", "not applicable")


def run(subject: MethodUnderTest, *, slow: bool = True) -> list[CheckOutcome]:
    """All checks on a method or variant.

    Args:
        subject: Which.
        slow: Also those that take seconds.
    """
    seen = Scenarios(subject)
    return [look(check, seen) for check in all_checks().values() if slow or not check.slow]


def look(check: Check, seen: Scenarios) -> CheckOutcome:
    """One check. A declared exception that does not fail is itself a failure."""
    outcome = _bare(check, seen)
    seen.tried("life")
    reason = "" if "life" in seen.failures else seen.life.method.expected_failures.get(check.id, "")
    if not reason:
        return outcome
    if outcome.state == "failed":
        return CheckOutcome(check, "known", f"{reason} ({outcome.seen})")
    if outcome.state == "unreached":
        return outcome
    return CheckOutcome(check, "failed", f"it is declared as a known exception ({reason}), but does not fail: drop it")


def good(outcomes: Iterable[CheckOutcome]) -> bool:
    """Whether the contract is kept."""
    return all(outcome.good for outcome in outcomes)


def _bare(check: Check, seen: Scenarios) -> CheckOutcome:
    try:
        check.look(seen)
    except CheckFailed as broken:
        return CheckOutcome(check, "failed", str(broken))
    except NotApplicable as reason:
        return CheckOutcome(check, "not applicable", str(reason))
    except Inconclusive as reason:
        return CheckOutcome(check, "unreached", str(reason))
    except Exception as error:  # what the method gave cannot even be looked at
        return CheckOutcome(check, "failed", f"{type(error).__name__}: {error}")
    return CheckOutcome(check, "passed")
