"""From covariances to the factors that CorDA starts with in its knowledge-preserved mode.

Source: CorDA, arXiv 2406.05223, section 3.3, and its code, which adds a share of C's mean diagonal to the diagonal.
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
from methods.components.null_space import energy_share

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel, Tensors


def least_components(weight: torch.Tensor, damped: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """B = U sqrt(S) (d_out, r) and A = sqrt(S) V^T C^-1 (r, d_in) of the r smallest singular values of W0 C, float64.

    All components together give W0 = U S V^T C^-1; these contribute least where old inputs are strong.

    Args:
        weight: W0 (d_out, d_in).
        damped: C (d_in, d_in) float64, positive definite.
        rank: r.

    Raises:
        UserError: The rank exceeds the number of components.
    """
    most = min(weight.shape)
    if not 1 <= rank <= most:
        raise UserError(f"rank {rank} of {most} components", location="rank", hint="choose a smaller rank")
    u, s, vt = torch.linalg.svd(weight.double() @ damped, full_matrices=False)
    root = s[-rank:].sqrt()
    return u[:, -rank:] * root, root[:, None] * torch.linalg.solve(damped, vt[-rank:].T).T


def corda_factors(model: InjectableModel, inputs: Iterable[InputCovariance], rank: int, damping: float) -> Tensors:
    """The start of every targeted layer, and how much of the old inputs' energy its A reads.

    Args:
        model: The untouched model.
        inputs: The covariances; each is released before the next is requested.
        rank: r of every layer.
        damping: Share of C's mean diagonal that is added to the diagonal.

    Returns:
        ``<layer>.A`` and ``<layer>.B`` in float32 or wider on the CPU, ``<layer>.leaked`` a float64 scalar.

    Raises:
        UserError: The rank is too large for some layer.
    """
    layers, tensors = target_layers(model), {}
    for part in inputs:
        damped = symmetrized_copy(part.covariance, layers[part.layers[0]].weight.device)
        damped.diagonal().add_(damping * damped.diagonal().mean())
        for name in part.layers:
            weight = dense_weight(layers[name])
            b, a = least_components(weight, damped, rank)
            leaked = energy_share(part.covariance, torch.linalg.qr(a.T).Q)
            tensors[f"{name}.B"], tensors[f"{name}.A"] = stored_factor(b, weight), stored_factor(a, weight)
            tensors[f"{name}.leaked"] = torch.tensor(leaked, dtype=torch.float64)
        del part, damped  # before the next one is computed
    return tensors
