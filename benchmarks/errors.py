"""``UserError``, the one exception for problems that the user can fix, and helpers for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something that the user can fix: an input file, a setting, the environment.

    The command line prints it without a traceback and exits with status 2.

    Args:
        message: What is wrong, in one sentence.
        location: The file, row, setting or command concerned.
        hint: What to do next, as an instruction.
    """

    def __init__(self, message: str, *, location: str = "", hint: str = "") -> None:
        self.message, self.location, self.hint = message, location, hint
        parts = [f"{location}: {message}" if location else message]
        if hint:
            parts.append(f"Hint: {hint}")
        super().__init__("\n".join(parts))


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type if the message is empty."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def one_line(error: BaseException, limit: int = 200) -> str:
    """An error's message on one line, cut to ``limit`` characters."""
    return " ".join(str(error).split())[:limit]


def shown(value: object, limit: int = 60) -> str:
    """A value as an error shows it: printable, on one line, and never more than ``limit`` characters of it."""
    text = repr(value[: limit + 1]) if isinstance(value, str | bytes) else repr(value)
    if len(value if isinstance(value, str | bytes) else text) <= limit:
        return text
    return f"{text[:limit]}..." + (f" ({len(value):,} characters)" if isinstance(value, str) else "")


def suggest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Start of a hint: ``"did you mean 'x'? "`` with the known name closest to ``name``, or "" if none is close.

    Args:
        name: What the user wrote; case is ignored.
        known: The names that exist.
        cutoff: Lowest similarity, from 0 to 1, that counts as close.
    """
    folded = {each.casefold(): each for each in known}
    closest = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=cutoff)
    return f"did you mean {folded[closest[0]]!r}? " if closest else ""
