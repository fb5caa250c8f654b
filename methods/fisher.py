"""Empirical Fisher information on old data: how much each weight matters to what the model already does.

Each sample counts by itself: its mean token loss is differentiated alone and the gradient squared. Squaring the mean
gradient of a batch instead would underestimate up to the size of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

import torch

from benchmarks.errors import UserError
from benchmarks.records import Conversation
from methods.adapters import factors, lora_layers
from methods.calibration import evaluating

if TYPE_CHECKING:
    from methods.base import InjectableModel, Tensors


def diagonal_fisher(model: InjectableModel, samples: Sequence[Conversation]) -> Tensors:
    """F = mean over samples of the squared gradient of the sample's mean token loss, for all that is trained.

    Returns:
        By parameter name, float32, in the parameter's shape.

    Raises:
        UserError: There are no samples.
    """
    trained = {name: parameter for name, parameter in model.module.named_parameters() if parameter.requires_grad}
    sums = {name: torch.zeros_like(parameter, dtype=torch.float32) for name, parameter in trained.items()}
    for _ in _backward_passes(model, samples):
        for name, parameter in trained.items():
            if parameter.grad is not None:
                sums[name] += parameter.grad.float().square()
    return {name: total / len(samples) for name, total in sums.items()}


def weight_factors(
    model: InjectableModel, samples: Sequence[Conversation]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """A rank-one stand-in for the Fisher information of each adapted layer's own weight, F_ij ~ a_i c_j.

    Taking tokens as independent, E[(sum_t g_ti x_tj)^2] is about E[sum_t g_ti^2] E[x_tj^2]: the first factor is a
    (d_out,), a mean over samples, the second c (d_in,), a mean over tokens; both float32.

    Raises:
        UserError: There are no samples.
    """
    found = {}
    tokens = 0
    handles = []
    for name, layer in lora_layers(model.module):
        down, up = factors(layer)
        a, c = torch.zeros(up.shape[0], device=up.device), torch.zeros(down.shape[1], device=down.device)
        found[name] = (a, c)
        handles.append(cast("torch.nn.Module", layer).register_forward_hook(_square_sums(a, c)))
    try:
        for batch in _backward_passes(model, samples):
            tokens += int(batch["attention_mask"].sum())
    finally:
        for handle in handles:
            handle.remove()
    return {name: (a / len(samples), c / tokens) for name, (a, c) in found.items()}


def factored_penalty(a: torch.Tensor, c: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """sum_ij a_i c_j (B A)_ij^2 = tr((B^T diag(a) B)(A diag(c) A^T)), without ever forming B A.

    Args:
        a: (d_out,).
        c: (d_in,).
        up: B (d_out, r).
        down: A (r, d_in).
    """
    return ((up.T * a) @ up * ((down * c) @ down.T)).sum()


def adapter_factors(model: InjectableModel) -> Iterator[tuple[str, torch.Tensor, torch.Tensor, float]]:
    """Name, A, B and scaling of each adapted layer."""
    for name, layer in lora_layers(model.module):
        a, b = factors(layer)
        yield name, a, b, float(next(iter(layer.scaling.values())))


def _backward_passes(model: InjectableModel, samples: Sequence[Conversation]) -> Iterator[dict[str, torch.Tensor]]:
    """One sample at a time: its gradients are there while it is yielded, and gone afterwards."""
    if not samples:
        raise UserError("no old data", where="fisher_samples", mend="ask for at least one sample")
    with evaluating(model):
        for sample in samples:
            batch = model.training_batch([sample])
            model.module.zero_grad(set_to_none=True)
            logits, targets = model.supervised(batch)
            torch.autograd.backward(torch.nn.functional.cross_entropy(logits.float(), targets))
            yield batch
        model.module.zero_grad(set_to_none=True)


def _square_sums(a: torch.Tensor, c: torch.Tensor) -> Callable[..., None]:
    """A forward hook that adds the squares of a layer's inputs to c and, going backward, of its gradients to a."""

    def add(total: torch.Tensor, values: torch.Tensor) -> None:
        total += values.detach().float().square().flatten(0, -2).sum(0)

    def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        add(c, inputs[0])
        output.register_hook(lambda gradient: add(a, gradient))  # type: ignore[no-untyped-call]

    return hook
