"""The weights of a frozen linear layer, whether they are stored as numbers or quantised to 4 bits.

A quantised matrix is stored as packed bytes, in another shape. What a method computes with it (projections, singular
vectors, differences) must read the matrix that the layer multiplies with: the dequantised one.
"""

from __future__ import annotations

from typing import Any

import torch


def is_quantized(weight: torch.Tensor) -> bool:
    """Whether a parameter holds packed bytes of bitsandbytes instead of its values."""
    return getattr(weight, "quant_state", None) is not None


def weight_dtype(layer: torch.nn.Module) -> torch.dtype:
    """The type of the matrix that a linear layer multiplies with: of a quantised one, its dequantised type."""
    weight: Any = layer.weight
    dtype: torch.dtype = weight.quant_state.dtype if is_quantized(weight) else weight.dtype
    return dtype


def stored_factor(factor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """A factor computed from a weight, to be stored: on the CPU, in float32 or wider where the weight is."""
    return factor.to("cpu", torch.promote_types(weight.dtype, torch.float32)).contiguous()


def dense_weight(layer: torch.nn.Module) -> torch.Tensor:
    """The matrix (d_out, d_in) that a linear layer multiplies with, without a graph; a copy if it is quantised."""
    weight: Any = layer.weight
    if not is_quantized(weight):
        values: torch.Tensor = weight.detach()
        return values
    from bitsandbytes.functional import dequantize_4bit

    dequantized: torch.Tensor = dequantize_4bit(weight.data, weight.quant_state)
    return dequantized
