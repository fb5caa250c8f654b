"""Run the contract on a method, and say how it fared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from harness.conformance.registry import Broken, Check, NotApplicable, Unreached, all_checks
from harness.conformance.scenarios import Observations
from harness.conformance.subject import Subject

State = Literal["passed", "failed", "unreached", "known", "not applicable"]


@dataclass(frozen=True)
class Outcome:
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


def run(subject: Subject, *, slow: bool = True) -> list[Outcome]:
    """All checks on a method or variant.

    Args:
        subject: Which.
        slow: Also those that take seconds.
    """
    seen = Observations(subject)
    return [look(check, seen) for check in all_checks().values() if slow or not check.slow]


def look(check: Check, seen: Observations) -> Outcome:
    """One check. A declared exception that does not fail is itself a failure."""
    outcome = _bare(check, seen)
    seen.tried("life")
    reason = "" if "life" in seen.failures else seen.life.method.known_exceptions.get(check.id, "")
    if not reason:
        return outcome
    if outcome.state == "failed":
        return Outcome(check, "known", f"{reason} ({outcome.seen})")
    if outcome.state == "unreached":
        return outcome
    return Outcome(check, "failed", f"it is declared as a known exception ({reason}), but does not fail: drop it")


def good(outcomes: Iterable[Outcome]) -> bool:
    """Whether the contract is kept."""
    return all(outcome.good for outcome in outcomes)


def _bare(check: Check, seen: Observations) -> Outcome:
    try:
        check.look(seen)
    except Broken as broken:
        return Outcome(check, "failed", str(broken))
    except NotApplicable as reason:
        return Outcome(check, "not applicable", str(reason))
    except Unreached as reason:
        return Outcome(check, "unreached", str(reason))
    except Exception as error:  # what the method gave cannot even be looked at
        return Outcome(check, "failed", f"{type(error).__name__}: {error}")
    return Outcome(check, "passed")
