"""Failures that several processes share, and failures for lack of memory."""

from __future__ import annotations

from benchmarks.errors import UserError


class PeerProcessError(UserError):
    """Another process failed; ``out_of_memory`` says whether it ran out of memory."""

    def __init__(self, reason: str, out_of_memory: bool = False) -> None:
        self.out_of_memory = out_of_memory
        super().__init__(
            f"another process failed: {reason}",
            location="several processes",
            hint="fix the error of that process; the others stopped with it",
        )


class OutOfMemoryError(UserError):
    """Not even one row fits into memory."""


def mark_shared(error: Exception) -> Exception:
    """Mark a failure that every process knows of; after any other the process must end, since its peers wait for it."""
    vars(error)["shared"] = True
    return error


def is_shared(error: Exception) -> bool:
    """Whether every process knows of this failure."""
    return isinstance(error, PeerProcessError) or bool(vars(error).get("shared"))


def is_allocation_failure(error: BaseException) -> bool:
    """Whether torch failed to allocate memory here, on a GPU or on the CPU."""
    if not isinstance(error, RuntimeError):
        return False
    import torch

    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in text or "not enough memory" in text


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, in this process or in a peer."""
    if isinstance(error, PeerProcessError):
        return error.out_of_memory
    return isinstance(error, OutOfMemoryError | MemoryError) or is_allocation_failure(error)
