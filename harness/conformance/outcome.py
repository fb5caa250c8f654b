"""How a check ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from harness.conformance.errors import CheckFailed, Inconclusive, NotApplicable

State = Literal["passed", "failed", "inconclusive", "expected failure", "not applicable"]


class Described(Protocol):
    """A check, of a method or of a model."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def reason(self) -> str:
        """Why it matters, in one sentence."""

    @property
    def hint(self) -> str:
        """What a failure usually means, and what to do."""


@dataclass(frozen=True)
class CheckOutcome:
    """The outcome of one check.

    Attributes:
        check: The check.
        state: "expected failure" is one that the method declares in ``expected_failures``; "inconclusive" means that
            something else failed first.
        detail: What was found, or why nothing was.
    """

    check: Described
    state: State
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing has to be fixed."""
        return self.state in ("passed", "expected failure", "not applicable")


def outcome_of(check: Described, run: Callable[[], None]) -> CheckOutcome:
    """Run a check and say how it ended."""
    try:
        run()
    except CheckFailed as failure:
        return CheckOutcome(check, "failed", str(failure))
    except NotApplicable as reason:
        return CheckOutcome(check, "not applicable", str(reason))
    except Inconclusive as reason:
        return CheckOutcome(check, "inconclusive", str(reason))
    except Exception as error:  # a method or a family may return anything, also what a check cannot handle
        return CheckOutcome(check, "failed", f"{type(error).__name__}: {error}")
    return CheckOutcome(check, "passed")
