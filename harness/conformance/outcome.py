"""How a check ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from harness.conformance.errors import CheckFailed, Inconclusive, NotApplicable
from harness.conformance.registry import Check

State = Literal["passed", "failed", "inconclusive", "expected failure", "not applicable"]


@dataclass(frozen=True)
class CheckOutcome:
    """The outcome of one check.

    Attributes:
        check: The check.
        state: "expected failure" is one that the method declares in ``expected_failures``; "inconclusive" means that
            something else failed first.
        detail: What was found, or why nothing was.
    """

    check: Check[Any]
    state: State
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing has to be fixed."""
        return self.state in ("passed", "expected failure", "not applicable")


def outcome_of(check: Check[Any], run: Callable[[], None]) -> CheckOutcome:
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
