"""Empirical Fisher information: how much each weight matters to what the model does on given samples.

Each sample counts on its own: the gradient of its mean token loss is squared. Squaring the mean gradient of a batch
instead would underestimate it, by up to the size of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

import torch

from benchmarks.errors import UserError
from benchmarks.records import Conversation
from methods.components.eval_mode import eval_mode
from methods.components.lora_layers import TRAINED, lora_ab, lora_layers

if TYPE_CHECKING:
    from methods.interfaces import Batch, InjectableModel, Tensors

Space = Literal["parameters", "weights"]
LayerFactors = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""A (r, d_in) and B (d_out, r) of each layer."""


def fisher_information(
    model: InjectableModel, samples: Sequence[Conversation], space: Space, include_a: bool
) -> Tensors:
    """Fisher information of the attached adapter, ready to be stored.

    Args:
        model: With an adapter.
        samples: What the model should not forget.
        space: Whether to look at B (and A) themselves, or at the weight of each layer.
        include_a: Whether to look at A; if B = 0, its Fisher information would be 0.

    Returns:
        ``fisher/<parameter>`` for A, B and projector; in weight space for the projector alone, and for each layer
        ``a/<layer>`` (1, d_out) and ``c/<layer>`` (1, d_in). All float32, on the CPU.

    Raises:
        UserError: There are no samples.
    """
    excluded = {"weights": ("lora_A", "lora_B"), "parameters": () if include_a else ("lora_A",)}[space]
    diagonal = diagonal_fisher(model, samples)
    tensors = {f"fisher/{name}": f for name, f in diagonal.items() if not any(part in name for part in excluded)}
    for name, (a, c) in (weight_factors(model, samples) if space == "weights" else {}).items():
        tensors |= {f"a/{name}": a[None], f"c/{name}": c[None]}
    return {name: tensor.cpu() for name, tensor in tensors.items()}


def merge_fisher(earlier: Mapping[str, torch.Tensor], later: Mapping[str, torch.Tensor]) -> Tensors:
    """Merge what ``fisher_information`` returned for two stages: add diagonals, stack factors."""
    merged = {**earlier, **later}
    for name in earlier.keys() & later.keys():
        first, second = earlier[name], later[name].to(earlier[name].device)
        merged[name] = first + second if name.startswith("fisher/") else torch.cat([first, second])
    return merged


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


def weight_factors(model: InjectableModel, samples: Sequence[Conversation]) -> LayerFactors:
    """A rank-one approximation of the Fisher information of each adapted layer's own weight, F_ij ~ a_i c_j.

    If tokens are independent, E[(sum_t g_ti x_tj)^2] is about E[sum_t g_ti^2] E[x_tj^2]: the first factor is a
    (d_out,), a mean over samples, the second c (d_in,), a mean over tokens; both float32.

    Raises:
        UserError: There are no samples.
    """
    factors = {}
    tokens = 0
    handles = []
    for name, layer in lora_layers(model.module):
        lora_a, lora_b = lora_ab(layer)
        a = torch.zeros(lora_b.shape[0], device=lora_b.device)
        c = torch.zeros(lora_a.shape[1], device=lora_a.device)
        factors[name] = (a, c)
        handles.append(cast("torch.nn.Module", layer).register_forward_hook(_square_sums(a, c)))
    try:
        for batch in _backward_passes(model, samples):
            tokens += int(batch["attention_mask"].sum())
    finally:
        for handle in handles:
            handle.remove()
    return {name: (a / len(samples), c / tokens) for name, (a, c) in factors.items()}


def factored_penalty(a: torch.Tensor, c: torch.Tensor, lora_b: torch.Tensor, lora_a: torch.Tensor) -> torch.Tensor:
    """sum_ij a_i c_j (B A)_ij^2 = tr((B^T diag(a) B)(A diag(c) A^T)), without forming B A.

    Args:
        a: (d_out,).
        c: (d_in,).
        lora_b: B (d_out, r).
        lora_a: A (r, d_in).
    """
    with torch.autocast(a.device.type, enabled=False):
        return ((lora_b.T * a) @ lora_b * ((lora_a * c) @ lora_a.T)).sum()


def weight_penalty(model: InjectableModel, fisher: Mapping[str, torch.Tensor], start: LayerFactors) -> torch.Tensor:
    """Sum F (s B A - s B* A*)^2 over all layers and all rank-one parts of F; scalar.

    Args:
        model: With an adapter.
        fisher: ``a/<layer>`` (parts, d_out) and ``c/<layer>`` (parts, d_in).
        start: A* and B* of each layer; empty if B* is 0.
    """
    terms = []
    for name, layer in lora_layers(model.module):
        lora_a, lora_b = lora_ab(layer)
        if name in start:
            lora_a, lora_b = torch.cat([lora_a, start[name][0]]), torch.cat([lora_b, -start[name][1]], dim=1)
        for a, c in zip(fisher[f"a/{name}"], fisher[f"c/{name}"], strict=True):
            terms.append(layer.scaling[TRAINED] ** 2 * factored_penalty(a, c, lora_b, lora_a))
    return torch.stack(terms).sum()


def copy_lora_ab(model: InjectableModel) -> LayerFactors:
    """Copies of the current A and B of each layer."""
    pairs = ((name, lora_ab(layer)) for name, layer in lora_layers(model.module))
    return {name: (a.detach().clone(), b.detach().clone()) for name, (a, b) in pairs}


def _backward_passes(model: InjectableModel, samples: Sequence[Conversation]) -> Iterator[Batch]:
    """Backpropagate one sample at a time; its gradients exist only while its batch is yielded."""
    if not samples:
        raise UserError("no samples for the Fisher information", location="fisher_samples", hint="ask for at least one")
    with eval_mode(model):
        for sample in samples:
            batch = model.training_batch([sample])
            model.module.zero_grad(set_to_none=True)
            logits, targets = model.supervised(batch)
            torch.autograd.backward(torch.nn.functional.cross_entropy(logits.float(), targets))
            yield batch
        model.module.zero_grad(set_to_none=True)


def _square_sums(a: torch.Tensor, c: torch.Tensor) -> Callable[..., None]:
    """A forward hook that adds squares of a layer's inputs to c and, in the backward pass, of its gradients to a."""

    def add(total: torch.Tensor, values: torch.Tensor) -> None:
        total += values.detach().float().square().flatten(0, -2).sum(0)

    def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        add(c, inputs[0])
        output.register_hook(lambda gradient: add(a, gradient))  # type: ignore[no-untyped-call]

    return hook
