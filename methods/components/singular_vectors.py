"""The left singular vectors of every decoder linear, its weight multiplied by what is known of its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch

from benchmarks.errors import UserError
from benchmarks.records import Conversation
from methods.components.base_weights import dense_weight
from methods.components.covariance import covariances
from methods.components.input_magnitudes import mean_magnitudes
from methods.components.input_moments import Norm
from methods.components.lora_layers import seeded_generator, target_layers
from methods.components.weight_svd import (
    covariance_weighting,
    left_singular_vectors,
    magnitude_weighting,
    rotated_weighting,
)

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel, Tensors

VERSION = 1
"""Part of the key under which the vectors are cached; raise it when the mathematics changes."""
Weighting = Literal["identity", "magnitudes", "covariance", "random"]


def singular_vectors(
    model: InjectableModel, prompts: Sequence[Conversation], weighting: Weighting, norm: Norm, seed: int
) -> Tensors:
    """U (d_out, min(d_out, d_in)) of each layer, float32 on the CPU, the largest singular value first.

    Args:
        model: The untouched model.
        prompts: Calibration samples; none are needed for ``identity``.
        weighting: What each weight is multiplied by.
        norm: How tokens are weighted in a covariance.
        seed: Of the random basis.

    Raises:
        UserError: There are no prompts, or an activation is not finite.
    """
    layers = target_layers(model)
    return {
        name: left_singular_vectors(dense_weight(layers[name]), by).float().cpu()
        for names, by in _weightings(model, prompts, weighting, norm, seed)
        for name in names
    }


def check_discard(count: int, ranks: Mapping[str, int], location: str = "discard") -> None:
    """Refuse to discard more components than some layer has.

    Args:
        count: How many shall be discarded from each layer.
        ranks: min(d_out, d_in) of each layer, by name.
        location: Where the number was given.

    Raises:
        UserError: It names the layer.
    """
    smallest = min(ranks, key=lambda name: ranks[name])
    if count > ranks[smallest]:
        problem = f"{count} components cannot be discarded: {smallest} has only {ranks[smallest]}"
        raise UserError(problem, location=location, hint=f"choose at most {ranks[smallest]}")


def _weightings(
    model: InjectableModel, prompts: Sequence[Conversation], weighting: Weighting, norm: Norm, seed: int
) -> Iterator[tuple[tuple[str, ...], torch.Tensor | None]]:
    """Layers that share a weighting, and the weighting."""
    layers = target_layers(model)
    if weighting == "identity":
        yield tuple(layers), None
    elif weighting == "magnitudes":
        for name, magnitudes in mean_magnitudes(model, prompts).items():
            yield (name,), magnitude_weighting(magnitudes).to(layers[name].weight.device)
    else:
        for part in covariances(model, prompts, norm):
            by = covariance_weighting(part.covariance, layers[part.layers[0]].weight.device)
            if weighting == "random":
                by = rotated_weighting(by, seeded_generator(f"{part.layers[0]}/random basis", seed))
            yield part.layers, by
            del part, by  # before the next one is computed
