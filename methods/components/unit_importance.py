"""How much old data need a decoder layer, or a tensor of the model; and the learning rates that follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from benchmarks.errors import UserError
from benchmarks.records import Conversation
from methods.components.eval_mode import eval_mode, eval_no_grad
from methods.components.layer_expansion import layer_names

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel, Tensors

WEIGHTS = "weights of the rates"
"""In the state, beside the parameters' values."""


def losses_without_layers(model: InjectableModel, samples: Sequence[Conversation]) -> torch.Tensor:
    """(1 + layers,) float64: the mean token loss of the base, then that without each of its decoder layers.

    A layer that is left out passes its input on, as one whose parameters are all 0 does.

    Raises:
        UserError: The samples have no answers.
    """
    layers = [model.module.get_submodule(name) for name in layer_names(model)]
    sums, tokens = torch.zeros(1 + len(layers), dtype=torch.float64), 0
    with eval_no_grad(model):
        for sample in samples:
            batch = model.training_batch([sample])
            for number, layer in enumerate([None, *layers]):
                handle = layer.register_forward_hook(_pass_on, prepend=True) if layer is not None else None
                try:
                    logits, targets = model.supervised(batch)
                finally:
                    if handle is not None:
                        handle.remove()
                sums[number] += float(cross_entropy(logits, targets, reduction="sum"))
            tokens += len(targets)
    if not tokens:
        raise UserError("the replay pool has no answers to measure", location="data.replay", hint="use another pool")
    return sums / tokens


def importances(
    model: InjectableModel, samples: Sequence[Conversation], parameters: Mapping[str, torch.nn.Parameter]
) -> torch.Tensor:
    """(parameters,) float64: the mean over each tensor of |w| E|g|, g the gradient of a sample's mean token loss.

    ADEPT's code, which takes the expectation over batches of two.
    """
    totals = [torch.zeros_like(parameter) for parameter in parameters.values()]
    for gradients in _gradients(model, samples, list(parameters.values())):
        for total, gradient in zip(totals, gradients, strict=True):
            if gradient is not None:
                total += gradient.abs()
    products = (
        float((parameter.detach().abs() * total).double().mean()) / len(samples)
        for parameter, total in zip(parameters.values(), totals, strict=True)
    )
    return torch.tensor(list(products), dtype=torch.float64)


def rate_weights(importance: torch.Tensor) -> torch.Tensor:
    """By what ADEPT multiplies learning rates: 2 (max I - I) / (max I - min I), or 1 if all I are equal."""
    low, high = importance.min(), importance.max()
    return torch.ones_like(importance) if low == high else 2.0 * (high - importance) / (high - low)


def reweighted_step(
    model: InjectableModel,
    samples: Sequence[Conversation],
    parameters: Mapping[str, torch.nn.Parameter],
    state: Tensors,
    *,
    due: bool,
) -> Tensors:
    """Multiply the step that AdamW has taken by each tensor's weight: a step of AdamW is proportional to its rate.

    Args:
        model: With the parameters.
        samples: Old data.
        parameters: By name.
        state: What this function returned after the step before; empty as long as all weights are 1.
        due: Whether to set the weights anew, from the next step on.

    Returns:
        The weights and a copy of each parameter.
    """
    if state:
        for (name, parameter), weight in zip(parameters.items(), state[WEIGHTS].tolist(), strict=True):
            parameter.copy_(torch.lerp(state[name], parameter, weight))
    if due:
        state = {WEIGHTS: rate_weights(importances(model, samples, parameters))}
    values = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    return {WEIGHTS: state[WEIGHTS], **values} if state else {}


def _gradients(
    model: InjectableModel, samples: Sequence[Conversation], parameters: list[torch.nn.Parameter]
) -> Iterator[tuple[torch.Tensor | None, ...]]:
    with eval_mode(model), torch.enable_grad():
        for sample in samples:
            logits, targets = model.supervised(model.training_batch([sample]))
            yield torch.autograd.grad(cross_entropy(logits, targets), parameters, allow_unused=True)


def _pass_on(_: torch.nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
    hidden: torch.Tensor = inputs[0]
    return hidden
