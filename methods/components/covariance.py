"""Second moments of what flows into the decoder's linear layers, gathered on the live model, layer by layer.

Only one decoder layer's covariances are in memory at any time: four of them in a Llama decoder, whatever its depth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation
from methods.components.input_moments import InputMoments, Norm
from methods.components.layerwise_forward import begun, decoder_layers

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel

TOKENS = 8192
"""In one forward pass, padding included, as far as prompts allow: bounds the activations of a wide model."""


@dataclass(frozen=True)
class InputCovariance:
    """A covariance (d_in, d_in), float32 at least, in main memory, and the names of the layers that read this input."""

    layers: tuple[str, ...]
    covariance: torch.Tensor


def covariances(
    model: InjectableModel, prompts: Sequence[Conversation], norm: Norm = "token-mean", batch_size: int = 32
) -> Iterator[InputCovariance]:
    """C = mean of x x^T over the tokens of the prompts, once for each distinct input; padding counts for nothing.

    In a Llama decoder the distinct inputs are those of (q, k, v), (o), (gate, up) and (down) of each layer. They come
    in the decoder's order, each when it is asked for: use one up before the next, and memory does not grow with depth.
    ``norm="official"`` is what KORE's code does instead: each sample is divided by the absolute value of its largest
    entry, and the sum by 256 whatever the number of samples.

    Args:
        model: The untouched model; it must stay so until the last covariance is given.
        prompts: Calibration samples; only their first user turns are read.
        norm: How tokens are weighed.
        batch_size: Prompts in one forward pass, at most; fewer where they are long.

    Raises:
        UserError: There are no prompts, or an activation is not finite.
    """
    if not prompts:
        raise UserError("no calibration samples", location="calibration_samples", hint="ask for at least one")
    ordered = sorted(prompts, key=lambda prompt: (prompt.turns[0].text.count(IMAGE), len(prompt.turns[0].text)))
    return _by_layer(model, ordered, norm, batch_size)


def _by_layer(
    model: InjectableModel, ordered: Sequence[Conversation], norm: Norm, batch_size: int
) -> Iterator[InputCovariance]:
    layers = decoder_layers(model)
    modules = [layer for layer, _ in layers]
    with no_recording(model):
        size = max(1, min(batch_size, TOKENS // model.prompt_batch(ordered[-1:])["input_ids"].shape[1]))
        parts = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        waiting = [begun(model, model.prompt_batch(part), modules) for part in parts]
    scale = 1 / 256 if norm == "official" else 1 / sum(int(batch.mask.sum()) for batch in waiting)
    for number, (layer, linears) in enumerate(layers):
        sums = InputMoments(norm)
        with sums.fed_by(linears), no_recording(model):
            for batch in waiting:
                sums.mask = batch.mask
                batch.through(layer, number)
        while sums.totals:
            yield _finished(*sums.take(), scale)  # no name here, or it would live on while the next one is made


def _finished(names: tuple[str, ...], total: torch.Tensor, scale: float) -> InputCovariance:
    if not bool(torch.isfinite(total.diagonal()).all()):  # whose entries bound all others
        raise UserError(
            "an activation is not finite", location="calibration", hint="run the model in bfloat16 or float32"
        )
    return InputCovariance(names, total.mul_(scale).cpu())


def content_digest(conversations: Sequence[Conversation]) -> str:
    """Sha256 over ids, turns and pixels, in order: what a cached statistic depends on."""
    digest = hashlib.sha256()
    for sample in conversations:
        for part in (
            sample.id,
            *(turn.text for turn in sample.turns),
            *(picture.sha256 for picture in sample.pictures),
        ):
            digest.update(part.encode() + b"\0")
    return digest.hexdigest()


@contextmanager
def evaluating(model: InjectableModel) -> Iterator[None]:
    """Eval mode for the duration; then the mode as it was."""
    training = model.module.training
    model.module.eval()
    try:
        yield
    finally:
        model.module.train(training)


@contextmanager
def no_recording(model: InjectableModel) -> Iterator[None]:
    """Eval mode without gradients for the duration."""
    with evaluating(model), torch.no_grad():
        yield
