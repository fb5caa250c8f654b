"""The one error whose cause lies with the user's input or environment."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can fix: an input file, a setting, the environment.

    The command line prints it without a traceback and exits with status 2.

    Args:
        message: What is wrong, in one sentence.
        location: File, row, setting or command that it concerns.
        hint: What to do next, as an instruction.
    """

    def __init__(self, message: str, *, location: str = "", hint: str = "") -> None:
        self.message, self.location, self.hint = message, location, hint
        parts = [f"{location}: {message}" if location else message]
        if hint:
            parts.append(f"Hint: {hint}")
        super().__init__("\n".join(parts))


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its type where it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
