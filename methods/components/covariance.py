"""Second moments of the inputs of the decoder's linear layers, computed on the live model, layer by layer.

Only one decoder layer's covariances are in memory at a time: four of them in a Llama decoder, whatever its depth.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation
from methods.components.eval_mode import eval_no_grad
from methods.components.input_moments import InputMoments, Norm
from methods.components.layerwise_forward import decoder_layers, first_layer_inputs

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel

TOKENS = 8192
"""Maximum number of tokens in a forward pass of several prompts, with padding: bounds a wide model's activations."""


@dataclass(frozen=True)
class InputCovariance:
    """A covariance (d_in, d_in), float32 or wider, on the CPU, and the names of the layers that read this input."""

    layers: tuple[str, ...]
    covariance: torch.Tensor


def covariances(
    model: InjectableModel,
    prompts: Sequence[Conversation],
    norm: Norm = "token-mean",
    batch_size: int = 32,
    names: Container[str] | None = None,
) -> Iterator[InputCovariance]:
    """C = mean of x x^T over the tokens of the prompts, once for each distinct input; padding is ignored.

    In a Llama decoder the distinct inputs are those of (q, k, v), (o), (gate, up) and (down) of each layer. They come
    in the decoder's order, each computed on demand: release one before requesting the next, and memory does not grow
    with depth. ``norm="official"`` does what KORE's code does instead: each sample is divided by the absolute value of
    its largest entry, and the sum by 256 whatever the number of samples.

    Args:
        model: The model, with an adapter or without; it must stay as it is until the last covariance is computed.
        prompts: Calibration samples; only their first user turns are read.
        norm: How tokens are weighted.
        batch_size: Maximum number of prompts in a forward pass; fewer if they are long.
        names: The linear layers whose inputs are measured [default: all of the decoder].

    Raises:
        UserError: There are no prompts, or an activation is not finite.
    """
    return _layer_by_layer(model, prompt_batches(model, prompts, batch_size), norm, names)


def prompt_batches(
    model: InjectableModel, prompts: Sequence[Conversation], batch_size: int = 32
) -> list[Sequence[Conversation]]:
    """The prompts in parts of similar lengths, each small enough for one forward pass.

    Raises:
        UserError: There are no prompts.
    """
    if not prompts:
        raise UserError("no calibration samples", location="calibration_samples", hint="ask for at least one")
    ordered = sorted(prompts, key=lambda prompt: (prompt.turns[0].text.count(IMAGE), len(prompt.turns[0].text)))
    with eval_no_grad(model):
        longest = model.prompt_batch(ordered[-1:])["input_ids"].shape[1]
    size = max(1, min(batch_size, TOKENS // longest))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def _layer_by_layer(
    model: InjectableModel, parts: Sequence[Sequence[Conversation]], norm: Norm, names: Container[str] | None
) -> Iterator[InputCovariance]:
    layers = decoder_layers(model, names)
    modules = [layer for layer, _ in layers]
    with eval_no_grad(model):
        batches = [first_layer_inputs(model, model.prompt_batch(part), modules) for part in parts]
    scale = 1 / 256 if norm == "official" else 1 / sum(int(batch.mask.sum()) for batch in batches)
    last = max((number for number, (_, linears) in enumerate(layers) if linears), default=-1)
    for number, (layer, linears) in enumerate(layers[: last + 1]):
        moments = InputMoments(norm)
        with moments.collecting(linears), eval_no_grad(model):
            for batch in batches:
                moments.mask = batch.mask
                batch.forward(layer, number)
        while moments.totals:
            yield _scaled(*moments.pop(), scale)  # not assigned, or it would stay alive while the next one is made


def _scaled(names: tuple[str, ...], total: torch.Tensor, scale: float) -> InputCovariance:
    if not bool(torch.isfinite(total.diagonal()).all()):  # the diagonal bounds all other entries
        raise UserError(
            "an activation is not finite", location="calibration", hint="run the model in bfloat16 or float32"
        )
    return InputCovariance(names, total.mul_(scale).cpu())
