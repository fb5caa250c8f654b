"""The checks of a model family, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.conformance.model_scenarios import ModelScenarios

ModelCheckFunction = Callable[["ModelScenarios"], None]
"""Raises ``CheckFailed``, ``NotApplicable`` or ``Inconclusive``, or returns."""


@dataclass(frozen=True)
class ModelCheck:
    """One check.

    Attributes:
        function: The check itself; its docstring says what is checked.
        reason: Why it matters, in one sentence.
        hint: What a failure usually means, and what to do.
    """

    function: ModelCheckFunction
    reason: str
    hint: str

    @property
    def id(self) -> str:
        """The name of the function."""
        return self.function.__name__


MODEL_CHECKS: dict[str, ModelCheck] = {}
"""By id, in the order in which they run; filled when the modules with the checks are imported."""


def model_check(*, reason: str, hint: str) -> Callable[[ModelCheckFunction], ModelCheckFunction]:
    """Register a function as a check under its name."""

    def register(function: ModelCheckFunction) -> ModelCheckFunction:
        MODEL_CHECKS[function.__name__] = ModelCheck(function, reason, hint)
        return function

    return register
