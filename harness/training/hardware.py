"""The hardware of a computation: its precision, its time and its peak memory."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16"]
WeightPrecision = Literal["float32", "bfloat16", "nf4"]
"""How the frozen weights are stored."""


def resolve_precision(device: torch.device, wanted: Literal["auto"] | Precision = "auto") -> Precision:
    """The type that matrix products are computed in; trained parameters are always float32.

    "auto" is bfloat16 where the hardware multiplies it natively: on GPUs since Ampere, on CPUs with AVX512-BF16 or AMX.
    Elsewhere it would be emulated, and slower than float32. The result is part of a cell's identity.
    """
    import torch

    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type == "cpu":
        # Torch before 2.12 does not report the processor's capabilities; float32 works on all of them.
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return "bfloat16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "float32"
    return "float32"


def compute_precision(device: str, stored: WeightPrecision) -> Precision:
    """The type that matrix products are computed in, given how the weights are stored.

    With nf4 it depends on the kind of device alone, never on its model, so that the precision says all of it.
    """
    if stored == "nf4":
        return "bfloat16" if device == "cuda" else "float32"
    return stored


def release_freed_memory() -> None:
    """Give memory that was freed back to the system, where the C library keeps it.

    Glibc keeps freed tensors of up to 32 MB for later ones. Where the batches of a training differ in length, later
    ones often do not fit into the gaps, and the process grows though nothing in it does. No value changes.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


class ResourceMonitor:
    """Seconds and peak memory since it was created.

    On a GPU the peak is that of its memory, otherwise that of the process.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._started = device, time.perf_counter()
        if device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(device)
        else:
            # Linux lets a process reset its own high-water mark; elsewhere the peak is that since the process started.
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
