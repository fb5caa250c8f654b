"""How a check ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

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
