"""Failures that several processes share, and telling lack of memory from everything else."""

from __future__ import annotations

from benchmarks.errors import UserError


class PeerProcessError(UserError):
    """Another process of the crew failed. ``starved`` says whether its memory did not suffice."""

    def __init__(self, reason: str, starved: bool = False) -> None:
        self.starved = starved
        super().__init__(
            f"another process failed: {reason}",
            location="several processes",
            hint="mend that; the others stopped with it",
        )


def mark_shared(error: Exception) -> Exception:
    """Mark a failure that all processes know of. Of any other the process must end, for the rest wait for it."""
    vars(error)["known_to_all"] = True
    return error


def is_shared(error: Exception) -> bool:
    """Whether all processes know of a failure."""
    return isinstance(error, PeerProcessError) or bool(vars(error).get("known_to_all"))
