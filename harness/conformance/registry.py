"""The checks of the contract, each with the reason why it matters and a hint for when it fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from harness.conformance.errors import CheckFailed

if TYPE_CHECKING:
    from harness.conformance.model_scenarios import ModelScenarios
    from harness.conformance.scenarios import Scenarios

S = TypeVar("S")
"""What a check is given: ``Scenarios`` of a method, or ``ModelScenarios`` of a model family."""


@dataclass(frozen=True)
class Check(Generic[S]):
    """One check.

    Attributes:
        function: The check itself; its docstring says what is checked. It raises ``CheckFailed``, ``NotApplicable`` or
            ``Inconclusive``, or returns.
        reason: Why it matters, in one sentence.
        hint: What a failure usually means, and what to do.
        slow: Whether it takes seconds.
        training: Whether it concerns training, so that it does not apply to a method that trains nothing.
    """

    function: Callable[[S], None]
    reason: str
    hint: str
    slow: bool = False
    training: bool = False

    @property
    def id(self) -> str:
        """The name of the function."""
        return self.function.__name__


CHECKS: dict[str, Check[Scenarios]] = {}
"""Those of methods by id, in the order in which they run. ``harness.conformance.checks`` fills it when imported."""
MODEL_CHECKS: dict[str, Check[ModelScenarios]] = {}
"""Those of model families; the modules with the checks fill it when they are imported."""


def check(
    *, reason: str, hint: str, slow: bool = False, training: bool = False
) -> Callable[[Callable[[Scenarios], None]], Callable[[Scenarios], None]]:
    """Register a function as a check of methods under its name."""
    return lambda function: _register(CHECKS, Check(function, reason, hint, slow, training))


def model_check(
    *, reason: str, hint: str
) -> Callable[[Callable[[ModelScenarios], None]], Callable[[ModelScenarios], None]]:
    """Register a function as a check of model families under its name."""
    return lambda function: _register(MODEL_CHECKS, Check(function, reason, hint))


def _register(checks: dict[str, Check[S]], new: Check[S]) -> Callable[[S], None]:
    if new.id in checks:
        raise ValueError(f"two checks are named {new.id}")
    checks[new.id] = new
    return new.function


def require(condition: object, problem: str) -> None:
    """Fail the check unless the condition is true.

    Raises:
        CheckFailed: It is not true; ``problem`` says what was found.
    """
    if not condition:
        raise CheckFailed(problem)
