"""An update made smaller or larger after the training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from methods.interfaces import InjectableModel

FACTOR = ".lora_B."
"""Part of the names of the factors to which low-rank updates are proportional."""


def scaled_update(
    model: InjectableModel, exported: Mapping[str, torch.Tensor], factor: float
) -> dict[str, torch.Tensor]:
    """Exported tensors with the update ``factor`` times as large: 1 gives the same bits, 0 the base.

    Every B is multiplied. A tensor named like a weight of the base is moved along the line from there to its value.
    What is left, such as A and routers, stays.

    Args:
        model: The untouched base.
        exported: By name, on the CPU.
        factor: Of the update.

    Source: WiSE-FT, arXiv 2109.01903, equation 1, for weights.
    """
    import torch

    base = {**dict(model.module.named_parameters()), **dict(model.module.named_buffers())}
    scaled = {}
    for name, tensor in exported.items():
        wide = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
        if FACTOR in name:
            wide = wide * factor
        elif name in base:
            wide = torch.lerp(base[name].detach().to("cpu", wide.dtype), wide, factor)
        scaled[name] = wide.to(tensor.dtype, copy=True)
    return scaled
