"""Run the decoder one layer at a time: all batches go through a layer before the next layer runs.

Statistics about a layer can then be used up before the next layer's are collected. Hidden states are kept on the CPU.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.errors import UserError
from methods.components.lora_layers import target_layers

if TYPE_CHECKING:
    from methods.interfaces import Batch, InjectableModel

LAYER = re.compile(r"(.*?\.\d+)\..*")
"""A name inside a list of modules; the outermost list is the decoder."""
Linears = dict[str, torch.nn.Linear]


@dataclass
class LayerwiseState:
    """A batch between two decoder layers.

    Attributes:
        hidden: (rows, tokens, hidden), on the CPU; the input of the next layer.
        mask: (rows, tokens) bool, false for padding.
        calls: The other arguments of each decoder layer.
        additions: What the decoder adds to the input of a layer, by its number, as Qwen3-VL does with the features of
            pictures; on the CPU.
    """

    hidden: torch.Tensor
    mask: torch.Tensor
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]
    additions: dict[int, torch.Tensor]

    def forward(self, layer: torch.nn.Module, number: int) -> None:
        """Run decoder layer ``number`` on the hidden states; they are then the input of the next one."""
        args, kwargs = self.calls[number]
        self.hidden.copy_(layer(self.hidden.to(self.mask.device, non_blocking=True), *args, **kwargs))
        if number + 1 in self.additions:
            self.hidden += self.additions[number + 1]


def decoder_layers(
    model: InjectableModel, names: Container[str] | None = None
) -> list[tuple[torch.nn.Module, Linears]]:
    """The decoder's layers in order, each with its linear layers by name.

    Args:
        model: With or without an adapter.
        names: Only these linear layers [default: all]; the decoder layers without one come too, with none.

    Raises:
        UserError: A targeted layer is in no list of layers.
    """
    linears_of: dict[str, Linears] = {}
    for name, linear in target_layers(model).items():
        match = LAYER.fullmatch(name)
        if match is None:
            raise UserError("it is in no list of decoder layers", location=name, hint="narrow linear_targets")
        linears = linears_of.setdefault(match[1], {})
        if names is None or name in names:
            linears[name] = linear
    return [(model.module.get_submodule(path), linears) for path, linears in linears_of.items()]


def first_layer_inputs(model: InjectableModel, batch: Batch, layers: Sequence[torch.nn.Module]) -> LayerwiseState:
    """The state of a batch before the first decoder layer; none of the layers is run.

    Raises:
        TypeError: The decoder does more between its layers than adding something that does not depend on them.
    """
    first, calls, additions = _record(model, batch, layers, 0.0)
    if additions:
        _, _, others = _record(model, batch, layers, 1.0)
        for number, added in additions.items():
            other = others.get(number, torch.full_like(added, torch.nan)) - 1.0
            if layers[number]._forward_pre_hooks or not torch.allclose(other, added, rtol=1e-2, atol=1e-2):
                raise TypeError("the decoder changes the hidden states between its layers")
    hidden = first.detach().to("cpu", copy=True)
    if first.device.type == "cuda":
        hidden = hidden.pin_memory()  # copied to the device several times faster
    return LayerwiseState(hidden, batch["attention_mask"].bool(), calls, additions)


def _record(
    model: InjectableModel, batch: Batch, layers: Sequence[torch.nn.Module], output: float
) -> tuple[torch.Tensor, list[tuple[tuple[Any, ...], dict[str, Any]]], dict[int, torch.Tensor]]:
    """The first layer's input, the other arguments of all layers, and the inputs that differ from the output before.

    Each layer's output is replaced by this number everywhere.
    """
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    inputs: list[torch.Tensor] = []
    changed: dict[int, torch.Tensor] = {}

    def record(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if inputs and hidden is not inputs[-1]:
            changed[len(calls)] = hidden.detach().to("cpu", copy=True)
        first = inputs[0] if inputs else hidden
        inputs[:] = [first, torch.full_like(first, output)]
        calls.append((args, kwargs))
        if len(calls) == len(layers):
            raise _StopForward
        return inputs[-1]

    with _forward_replaced(layers, record), suppress(_StopForward):
        model.module(**batch, use_cache=False, logits_to_keep=1)
    return inputs[0], calls, changed


class _StopForward(Exception):
    """All layers have been called."""


@contextmanager
def _forward_replaced(layers: Sequence[torch.nn.Module], forward: Any) -> Iterator[None]:
    previous = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        vars(layer)["forward"] = forward
    try:
        yield
    finally:
        for layer, own in zip(layers, previous, strict=True):
            if own is None:
                del vars(layer)["forward"]
            else:
                vars(layer)["forward"] = own


@contextmanager
def layer_outputs(layers: Sequence[torch.nn.Module]) -> Iterator[list[torch.Tensor]]:
    """Collect the layers' outputs (rows, tokens, hidden) of a forward pass within the block, in order."""
    seen: list[torch.Tensor] = []

    def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
