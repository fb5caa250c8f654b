"""The one error that a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """Input or surroundings that the user can put right.

    The command line prints it without a traceback and exits with status 2.

    Args:
        problem: What is wrong, in one sentence.
        where: File, row, setting or command that it concerns.
        mend: What to do next, as an instruction.
    """

    def __init__(self, problem: str, *, where: str = "", mend: str = "") -> None:
        self.problem, self.where, self.mend = problem, where, mend
        parts = [f"{where}: {problem}" if where else problem]
        if mend:
            parts.append(f"To mend it: {mend}")
        super().__init__("\n".join(parts))


def first_line(error: Exception) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
