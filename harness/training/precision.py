"""Which floating-point type to compute in."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]


def resolve_precision(device: torch.device, wanted: Literal["auto"] | Precision = "auto") -> Precision:
    """The type that matrix products are computed in; trained parameters are float32 always.

    "auto" is bfloat16 where the hardware multiplies it natively: on GPUs since Ampere, on CPUs with AVX512-BF16 or AMX.
    Elsewhere it would be emulated, and slower than float32. The answer is part of a cell's identity.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type == "cpu":
        # Torch before 2.12 cannot say what the processor offers; float32 is right on all of them.
        offered: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return "bfloat16" if offered.get("avx512_bf16") or offered.get("amx_bf16") else "float32"
    return "float32"
