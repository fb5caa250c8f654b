"""From covariances to the factors that KORE starts with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import torch

from methods.components.covariance import InputCovariance, content_digest, covariances
from methods.components.lora_layers import seeded, target_layers
from methods.components.null_space import (
    balanced,
    bottom_eigenvectors,
    energy_share,
    projected_factors,
    random_basis,
    top_eigenvectors,
)

if TYPE_CHECKING:
    from benchmarks.records import Conversation
    from methods.interfaces import InjectableModel, Resources, Tensors
    from methods.kore import KoreSettings

VERSION = 2
"""Part of the key under which A is cached; raise it when the mathematics changes."""
Subspace = Literal["null", "random", "top"]


def cached_start(
    model: InjectableModel, resources: Resources, settings: KoreSettings, prompts: Sequence[Conversation]
) -> Tensors:
    """``starting_factors`` over the prompts, computed once for all that they depend on; without B where A is frozen.

    Raises:
        UserError: There are no prompts, or the rank is too large for some layer.
    """
    key = {
        "what": "kore/A",
        "version": VERSION,
        "rank": settings.rank,
        "norm": settings.norm,
        "subspace": settings.subspace,
        "prompts": content_digest(prompts),
        "layers": model.linear_targets,
        "both factors": not settings.freeze_a,
    }
    if settings.subspace == "random":
        key["seed"] = resources.seed

    def compute() -> Tensors:
        shared = covariances(model, prompts, settings.norm)
        both = not settings.freeze_a
        return starting_factors(model, shared, settings.rank, settings.subspace, resources.seed, both=both)

    return resources.cached(key, compute)


def starting_factors(
    model: InjectableModel,
    shared: Iterable[InputCovariance],
    rank: int,
    subspace: Subspace = "null",
    seed: int = 0,
    *,
    both: bool = True,
) -> Tensors:
    """A and B of every targeted layer, and how much old energy A still sees.

    The controls differ from KORE in directions alone: A keeps the singular values that the null space gives, and with
    them its norm, but reads a random subspace or the one where old inputs are strongest.

    Args:
        model: The untouched model.
        shared: The covariances; each is used up before the next is asked for.
        rank: r of every layer.
        subspace: What A reads.
        seed: Of the random subspace.
        both: Give B as well as A.

    Returns:
        ``<layer>.A`` (rank, d_in) and, if asked for, ``<layer>.B`` (d_out, rank), float32 at least and in main memory;
        ``<layer>.leaked``, a float64 scalar.

    Raises:
        UserError: The rank is too large for some layer.
    """
    layers = target_layers(model)
    tensors: Tensors = {}
    for part in shared:
        device = layers[part.layers[0]].weight.device
        null = bottom_eigenvectors(part.covariance, rank, device)
        basis = null if subspace == "null" else _control(part, rank, subspace, seed, device)
        leaked = torch.tensor(energy_share(part.covariance, basis), dtype=torch.float64)
        for name in part.layers:
            weight = layers[name].weight.detach()
            u, s, vt = projected_factors(weight, null)
            if subspace != "null":
                u, _, vt = projected_factors(weight, basis)
            b, a = balanced(u, s, vt)
            tensors[f"{name}.A"], tensors[f"{name}.leaked"] = _stored(a, weight), leaked.clone()
            if both:
                tensors[f"{name}.B"] = _stored(b, weight)
        del part  # before the next one is made
    return tensors


def _stored(factor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return factor.to("cpu", torch.promote_types(weight.dtype, torch.float32)).contiguous()


def _control(part: InputCovariance, rank: int, subspace: Subspace, seed: int, device: torch.device) -> torch.Tensor:
    if subspace == "top":
        return top_eigenvectors(part.covariance, rank, device)
    generator = seeded(f"{part.layers[0]}/random subspace", seed)
    return random_basis(part.covariance.shape[0], rank, generator).to(device)
