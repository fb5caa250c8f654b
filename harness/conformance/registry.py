"""The checks of the contract, each with the reason why it matters and a hint for when it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.conformance.errors import CheckFailed

if TYPE_CHECKING:
    from harness.conformance.scenarios import Scenarios

CheckFunction = Callable[["Scenarios"], None]
"""Raises ``CheckFailed``, ``NotApplicable`` or ``Inconclusive``, or returns."""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        function: The check itself; its docstring says what is checked.
        reason: Why it matters, in one sentence.
        hint: What a failure usually means, and what to do.
        slow: Whether it takes seconds.
        training: Whether it concerns training, so that it does not apply to a method that trains nothing.
    """

    function: CheckFunction
    reason: str
    hint: str
    slow: bool = False
    training: bool = False

    @property
    def id(self) -> str:
        """The name of the function."""
        return self.function.__name__


CHECKS: dict[str, Check] = {}
"""By id, in the order in which they run. ``harness.conformance.checks`` fills it when it is imported."""


def check(
    *, reason: str, hint: str, slow: bool = False, training: bool = False
) -> Callable[[CheckFunction], CheckFunction]:
    """Register a function as a check under its name."""

    def register(function: CheckFunction) -> CheckFunction:
        if function.__name__ in CHECKS:
            raise ValueError(f"two checks are named {function.__name__}")
        CHECKS[function.__name__] = Check(function, reason, hint, slow, training)
        return function

    return register


def require(condition: object, problem: str) -> None:
    """Fail the check unless the condition is true.

    Raises:
        CheckFailed: It is not true; ``problem`` says what was found.
    """
    if not condition:
        raise CheckFailed(problem)
