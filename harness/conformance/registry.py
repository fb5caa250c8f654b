"""What every method promises: checks, each with a name, a reason, and what to do where it fails."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.conformance.scenarios import Scenarios


class CheckFailed(Exception):
    """The method breaks the promise; the message says what was seen."""


class NotApplicable(Exception):
    """The promise says nothing about this method; the message says why."""


class Inconclusive(Exception):
    """Something else went wrong first, so that nothing can be said; the message says what."""


class HookError(Inconclusive):
    """A hook raised an error.

    Args:
        hook: Its name.
        error: What it raised.
    """

    def __init__(self, hook: str, error: Exception) -> None:
        self.hook, self.error = hook, error
        said = str(error).splitlines()[0] if str(error) else ""
        super().__init__(f"{hook} raised {type(error).__name__}: {said}{_place(error)}")


def _place(error: Exception) -> str:
    """The innermost line of the error's way that is no library's and not the contract's own."""
    here, frames = str(Path(__file__).parent), traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if "site-packages" not in one.filename and not one.filename.startswith(here)]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


@dataclass(frozen=True)
class Check:
    """One promise."""

    id: str
    reason: str
    """Why it matters, in one sentence."""
    hint: str
    """What a failure usually means, and what to do."""
    look: Callable[[Scenarios], None]
    """Raises ``CheckFailed``, ``NotApplicable`` or ``Inconclusive``, or returns."""
    slow: bool = False


_CHECKS: dict[str, Check] = {}
_ABOUT = ("metadata", "settings", "data", "attach", "training", "penalty", "export", "isolation", "stages")


def check(id: str, *, reason: str, hint: str, slow: bool = False) -> Callable[[Callable[[Scenarios], None]], None]:
    """Make a check of a function that looks at the observations of a method."""

    def add(look: Callable[[Scenarios], None]) -> None:
        if id in _CHECKS:
            raise ValueError(f"two checks are called {id}")
        _CHECKS[id] = Check(id, reason, hint, look, slow)

    return add


def require(kept: object, seen: str) -> None:
    """Say that the promise is broken unless ``kept`` is true.

    Raises:
        Broken: It is not; ``seen`` says what was found.
    """
    if not kept:
        raise CheckFailed(seen)


def all_checks() -> dict[str, Check]:
    """Every check by its name, in the order in which they are run."""
    for about in _ABOUT:  # a module adds its checks when it is imported
        importlib.import_module(f"harness.conformance.checks.{about}")
    return dict(_CHECKS)
