"""What torch allocates on the CPU, exactly: torch's profiler records every allocation and release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def peak_of(action: Callable[[], Any]) -> int:
    """The most bytes that were allocated at once beyond those at the start; the allocator's own padding included.

    Memory that libraries use without torch's allocator is not part of it, nor is what the allocator of the C library
    keeps after it was released.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        action()
    held = peak = 0
    events = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak
