"""Telling that memory did not suffice from everything else that can go wrong."""

from __future__ import annotations

import torch

from benchmarks.errors import UserError
from harness.distributed.failures import PeerProcessError


class OutOfMemoryError(UserError):
    """Memory does not even suffice for one row."""


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in text or "not enough memory" in text


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a failure is one of memory, in this process or in another of its crew."""
    if isinstance(error, PeerProcessError):
        return error.starved
    if isinstance(error, RuntimeError):
        return out_of_memory(error)
    return isinstance(error, OutOfMemoryError | MemoryError)
