"""Empirical Fisher information on old data: how much each weight matters to what the model already does.

Each sample counts by itself: its mean token loss is differentiated alone and the gradient squared. Squaring the mean
gradient of a batch instead would underestimate up to the size of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

import torch

from benchmarks.errors import UserError
from benchmarks.records import Conversation
from methods.components.covariance import evaluating
from methods.components.lora_layers import TRAINED, lora_ab, lora_layers

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel, Tensors

Space = Literal["parameters", "weights"]
Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""A (r, d_in) and B (d_out, r) of each layer."""


def fisher_information(model: InjectableModel, samples: Sequence[Conversation], space: Space, a_too: bool) -> Tensors:
    """Fisher information of what is attached, ready to be stored.

    Args:
        model: With an adapter.
        samples: What it should not forget.
        space: Whether B (and A) are looked at themselves, or the weight of each layer.
        a_too: Whether A is; where B = 0 it would be 0.

    Returns:
        ``fisher/<parameter>`` for A, B and projector; in weight space for the projector alone, and for each layer
        ``a/<layer>`` (1, d_out) and ``c/<layer>`` (1, d_in). All float32.

    Raises:
        UserError: There are no samples.
    """
    left_out = {"weights": ("lora_A", "lora_B"), "parameters": () if a_too else ("lora_A",)}[space]
    diagonal = diagonal_fisher(model, samples)
    found = {f"fisher/{name}": f for name, f in diagonal.items() if not any(part in name for part in left_out)}
    for name, (a, c) in (weight_factors(model, samples) if space == "weights" else {}).items():
        found |= {f"a/{name}": a[None], f"c/{name}": c[None]}
    return {name: tensor.cpu() for name, tensor in found.items()}


def merge_fisher(earlier: Mapping[str, torch.Tensor], later: Mapping[str, torch.Tensor]) -> Tensors:
    """What ``fisher_information`` gave for two stages: diagonals are added, factors put below each other."""
    both = {**earlier, **later}
    for name in earlier.keys() & later.keys():
        one, other = earlier[name], later[name].to(earlier[name].device)
        both[name] = one + other if name.startswith("fisher/") else torch.cat([one, other])
    return both


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


def weight_factors(model: InjectableModel, samples: Sequence[Conversation]) -> Factors:
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
        down, up = lora_ab(layer)
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
    with torch.autocast(a.device.type, enabled=False):
        return ((up.T * a) @ up * ((down * c) @ down.T)).sum()


def weight_penalty(model: InjectableModel, fisher: Mapping[str, torch.Tensor], start: Factors) -> torch.Tensor:
    """Sum F (s B A - s B* A*)^2 over all layers and all rank-one parts of F; scalar.

    Args:
        model: With an adapter.
        fisher: ``a/<layer>`` (parts, d_out) and ``c/<layer>`` (parts, d_in).
        start: A* and B* of each layer; nothing where B* is 0.
    """
    held = []
    for name, layer in lora_layers(model.module):
        down, up = lora_ab(layer)
        if name in start:
            down, up = torch.cat([down, start[name][0]]), torch.cat([up, -start[name][1]], dim=1)
        for a, c in zip(fisher[f"a/{name}"], fisher[f"c/{name}"], strict=True):
            held.append(layer.scaling[TRAINED] ** 2 * factored_penalty(a, c, up, down))
    return torch.stack(held).sum()


def copied_factors(model: InjectableModel) -> Factors:
    """Copies of A and B as they are now."""
    return {
        name: (lora_ab(layer)[0].detach().clone(), lora_ab(layer)[1].detach().clone())
        for name, layer in lora_layers(model.module)
    }


def _backward_passes(model: InjectableModel, samples: Sequence[Conversation]) -> Iterator[dict[str, torch.Tensor]]:
    """One sample at a time: its gradients are there while it is yielded, and gone afterwards."""
    if not samples:
        raise UserError("no old data", location="fisher_samples", hint="ask for at least one sample")
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
