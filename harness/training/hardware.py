"""What a computation takes from the machine."""

from __future__ import annotations

import contextlib
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class ResourceMonitor:
    """Seconds and peak memory from its making on.

    On a GPU the peak is that of its memory, else that of the process.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._started = device, time.perf_counter()
        if device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(device)
        else:
            # Linux lets a process reset its own high-water mark; where it does not, the peak since the start stands.
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")

    @property
    def seconds(self) -> float:
        """Wall-clock seconds so far."""
        return time.perf_counter() - self._started

    @property
    def peak_bytes(self) -> int:
        """The most memory that was in use at once."""
        if self._device.type == "cuda":
            import torch

            return int(torch.cuda.max_memory_allocated(self._device))
        status = Path("/proc/self/status")
        if status.exists():
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
