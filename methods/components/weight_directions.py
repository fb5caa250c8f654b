"""The directions in which a model's weights are strongest or weakest, which need no data."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from benchmarks.errors import UserError
from methods.components.base_weights import dense_weight, stored_factor
from methods.components.lora_layers import target_layers

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel, Tensors


def singular_vectors(weight: torch.Tensor, count: int, *, largest: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Left (d_out, k) and right (d_in, k) singular vectors of the largest or smallest singular values, float64.

    Args:
        weight: W0 (d_out, d_in).
        count: k; fewer than there are, since a constraint to none or all of them is no constraint or leaves nothing.
        largest: Which end of the spectrum.

    Raises:
        UserError: There are no more than k.
    """
    most = min(weight.shape)
    if not 1 <= count < most:
        raise UserError(f"{count} directions of {most}", location="rank", hint="choose a smaller rank")
    left, _, right = torch.linalg.svd(weight.double(), full_matrices=False)
    chosen = slice(count) if largest else slice(-count, None)
    return left[:, chosen], right[chosen].T


def weight_directions(
    model: InjectableModel, targets: str, count: int | Callable[[int, int], int], *, largest: bool
) -> Tensors:
    """``<layer>.left`` (d_out, k) and ``<layer>.right`` (d_in, k) of every adapted layer, on the CPU.

    In float32, or wider where the weight is.

    Args:
        model: The untouched model.
        targets: As the setting ``targets``.
        count: k, or a function of d_in and d_out that gives it.
        largest: Which end of the spectrum.

    Raises:
        UserError: A layer has no more than k directions.
    """
    tensors: Tensors = {}
    for name, layer in target_layers(model, targets).items():
        weight = dense_weight(layer)
        own = count(layer.in_features, layer.out_features) if callable(count) else count
        for side, vectors in zip(("left", "right"), singular_vectors(weight, own, largest=largest), strict=True):
            tensors[f"{name}.{side}"] = stored_factor(vectors, weight)
    return tensors
