"""Second moments of what flows into the decoder's linear layers, gathered on the live model by forward hooks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation
from methods.adapters import target_layers

if TYPE_CHECKING:
    from methods.base import InjectableModel

Norm = Literal["token-mean", "official"]


@dataclass(frozen=True)
class SharedInput:
    """A covariance (d_in, d_in), float32 at least, and the names of the layers that read this very input."""

    layers: tuple[str, ...]
    covariance: torch.Tensor


def shared_inputs(model: InjectableModel, batch: dict[str, torch.Tensor]) -> list[tuple[str, ...]]:
    """Which targeted layers read the same tensor, found by running one batch.

    In a Llama decoder these are (q, k, v), (o), (gate, up) and (down) of each layer.
    """
    groups: list[tuple[torch.Tensor, list[str]]] = []

    def note(name: str) -> Callable[[torch.nn.Module, tuple[Any, ...]], None]:
        def hook(_: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
            # Layers that share an input run one after the other; older tensors need not be kept alive.
            if groups and groups[-1][0] is inputs[0]:
                groups[-1][1].append(name)
            else:
                if groups:
                    groups[-1] = (torch.empty(0), groups[-1][1])
                groups.append((inputs[0], [name]))

        return hook

    with _hooked({layer: note(name) for name, layer in target_layers(model).items()}), quiet(model):
        model.module(**batch, use_cache=False, logits_to_keep=1)
    return [tuple(names) for _, names in groups]


def covariances(
    model: InjectableModel, prompts: Sequence[Conversation], norm: Norm = "token-mean", batch_size: int = 32
) -> list[SharedInput]:
    """C = mean of x x^T over the tokens of the prompts, once for each distinct input; padding counts for nothing.

    ``norm="official"`` is what KORE's code does instead: each sample is divided by the absolute value of its largest
    entry, and the sum by 256 whatever the number of samples.

    Args:
        model: The untouched model.
        prompts: Calibration samples; only their first user turns are read.
        norm: How tokens are weighed.
        batch_size: Prompts in one forward pass.

    Raises:
        UserError: There are no prompts, or an activation is not finite.
    """
    if not prompts:
        raise UserError("no calibration samples", where="calibration_samples", mend="ask for at least one")
    ordered = sorted(prompts, key=lambda prompt: (prompt.turns[0].text.count(IMAGE), len(prompt.turns[0].text)))
    batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    layers = target_layers(model)
    groups = shared_inputs(model, model.prompt_batch(ordered[:1]))
    sums = {names: _zeros(layers[names[0]]) for names in groups}
    tokens, mask, places = 0, torch.empty(0), torch.empty(0)

    def add(names: tuple[str, ...]) -> Callable[[torch.nn.Module, tuple[Any, ...]], None]:
        def hook(_: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
            x = inputs[0].to(sums[names].dtype)
            if norm == "official":
                x = x / x.masked_fill(~mask[..., None], -torch.inf).amax((1, 2), keepdim=True).abs()
            _add_products(sums[names], x.flatten(0, 1)[places])
            if names == groups[-1]:
                raise _Enough

        return hook

    with _hooked({layers[names[0]]: add(names) for names in groups}), quiet(model):
        for part in batches:
            batch = model.prompt_batch(part)
            mask = batch["attention_mask"].bool()
            places = mask.flatten().nonzero().squeeze(-1)
            tokens += len(places)
            with suppress(_Enough):
                model.module(**batch, use_cache=False, logits_to_keep=1)
    scale = 1 / 256 if norm == "official" else 1 / tokens
    found = [SharedInput(names, _whole(total).mul_(scale)) for names, total in sums.items()]
    if not all(bool(torch.isfinite(part.covariance).all()) for part in found):
        raise UserError("an activation is not finite", where="calibration", mend="run the model in bfloat16 or float32")
    return found


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


class _Enough(Exception):
    """The last input has been seen; what the model would make of it is not needed."""


def _add_products(total: torch.Tensor, x: torch.Tensor) -> None:
    """Add x^T x, for x (tokens, d_in), to the lower triangle of ``total`` at least."""
    if total.device.type != "cpu":
        total.addmm_(x.T, x)
        return
    from scipy.linalg.blas import dsyrk, ssyrk  # half the work of a product that does not know of its symmetry

    update = ssyrk if total.dtype == torch.float32 else dsyrk
    # The transposed views are in Fortran's order, so that nothing is copied; its upper triangle is our lower one.
    update(1.0, x.numpy().T, beta=1.0, c=total.numpy().T, overwrite_c=1)


def _whole(total: torch.Tensor) -> torch.Tensor:
    """The symmetric matrix with this lower triangle."""
    return total.tril() + total.tril(-1).T


def _zeros(layer: torch.nn.Linear) -> torch.Tensor:
    weight = layer.weight
    dtype = torch.promote_types(weight.dtype, torch.float32)
    return torch.zeros(layer.in_features, layer.in_features, dtype=dtype, device=weight.device)


@contextmanager
def _hooked(hooks: dict[torch.nn.Linear, Callable[[torch.nn.Module, tuple[Any, ...]], None]]) -> Iterator[None]:
    handles = [layer.register_forward_pre_hook(hook) for layer, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


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
def quiet(model: InjectableModel) -> Iterator[None]:
    """Eval mode without gradients for the duration."""
    with evaluating(model), torch.no_grad():
        yield
