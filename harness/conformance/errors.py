"""How a check ends if it does not pass, and errors raised by hooks."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.errors import first_line


class CheckFailed(Exception):
    """The method violates the contract; the message says what was found."""


class NotApplicable(Exception):
    """The check does not concern this method; the message says why."""


class Inconclusive(Exception):
    """Something else failed before the check could tell; the message says what."""


class HookError(Inconclusive):
    """A hook raised an error.

    Args:
        hook: Name of the hook.
        error: What it raised.
    """

    def __init__(self, hook: str, error: Exception) -> None:
        self.hook, self.error = hook, error
        super().__init__(f"{hook} raised {type(error).__name__}: {first_line(error)}{_place(error)}")


class SimulatedKill(BaseException):
    """Stops a training as a kill would; no ``except Exception`` stops it."""


def _place(error: Exception) -> str:
    """File and line of the innermost frame outside libraries and this package; "" if there is none."""
    package, frames = str(Path(__file__).parent), traceback.extract_tb(error.__traceback__)
    own = [
        frame for frame in frames if "site-packages" not in frame.filename and not frame.filename.startswith(package)
    ]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


@contextmanager
def hook_errors(hook: str) -> Iterator[None]:
    """Attribute errors raised in the block to a hook.

    Raises:
        HookError: The block raised anything but ``Inconclusive``.
    """
    try:
        yield
    except Inconclusive:
        raise
    except Exception as error:  # a method's code may raise anything
        raise HookError(hook, error) from error
