"""From covariances of inputs to the factors that Astra starts with, which are directions of outputs.

Source: Astra, arXiv 2602.19111, and its code: B = Q and A = Q^T W0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from benchmarks.errors import UserError
from methods.components.base_weights import dense_weight, stored_factor
from methods.components.covariance import InputCovariance
from methods.components.krylov import symmetrized_copy
from methods.components.lora_layers import target_layers
from methods.components.null_space import bottom_eigenvectors, energy_share, top_eigenvectors

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel, Tensors


def astra_factors(model: InjectableModel, inputs: Iterable[InputCovariance], rank: int, *, largest: bool) -> Tensors:
    """The start of every targeted layer, and the share of the outputs' energy in its directions.

    The outputs y = W0 x, without the bias, have the covariance W0 C W0^T.

    Args:
        model: The untouched model.
        inputs: The covariances; each is released before the next is requested.
        rank: r of every layer.
        largest: Whether the directions are those of the largest eigenvalues instead of the smallest.

    Returns:
        ``<layer>.A`` and ``<layer>.B`` in float32 or wider on the CPU, ``<layer>.energy`` a float64 scalar.

    Raises:
        UserError: The rank is too large for some layer.
    """
    layers, tensors = target_layers(model), {}
    for part in inputs:
        covariance = symmetrized_copy(part.covariance, layers[part.layers[0]].weight.device)
        for name in part.layers:
            weight = dense_weight(layers[name])
            if rank > min(weight.shape):
                raise UserError(
                    f"rank {rank} of {min(weight.shape)} dimensions", location="rank", hint="choose a smaller rank"
                )
            exact = weight.double()
            outputs = exact @ covariance @ exact.T
            directions = (top_eigenvectors if largest else bottom_eigenvectors)(outputs, rank)
            tensors[f"{name}.B"] = stored_factor(directions, weight)
            tensors[f"{name}.A"] = stored_factor(directions.T @ exact, weight)
            tensors[f"{name}.energy"] = torch.tensor(energy_share(outputs, directions), dtype=torch.float64)
        del part, covariance  # before the next one is computed
    return tensors
