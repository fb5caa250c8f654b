"""The decoder one layer at a time: all batches go through a layer before the next layer is touched.

So what is gathered about a layer can be used up before the next one is looked at. Hidden states wait in main memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.errors import UserError
from methods.components.lora_layers import target_layers

if TYPE_CHECKING:
    from methods.interfaces import Batch, InjectableModel

LAYER = re.compile(r"(.*?\.\d+)\..*")
"""A name inside a list of modules: the outermost list is the decoder."""
Linears = dict[str, torch.nn.Linear]


@dataclass
class LayerwiseState:
    """A batch between two decoder layers.

    Attributes:
        hidden: (rows, tokens, hidden), in main memory; what the next layer reads.
        mask: (rows, tokens) bool, false where there is padding.
        calls: What each decoder layer is given beside the hidden states.
    """

    hidden: torch.Tensor
    mask: torch.Tensor
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]

    def through(self, layer: torch.nn.Module, number: int) -> None:
        """Let decoder layer ``number`` work on the hidden states."""
        args, more = self.calls[number]
        self.hidden.copy_(layer(self.hidden.to(self.mask.device, non_blocking=True), *args, **more))


def decoder_layers(model: InjectableModel) -> list[tuple[torch.nn.Module, Linears]]:
    """The decoder's layers in their order, with the targeted linear layers of each.

    Raises:
        UserError: A targeted layer is in no list of layers.
    """
    found: dict[str, Linears] = {}
    for name, linear in target_layers(model).items():
        inside = LAYER.fullmatch(name)
        if inside is None:
            raise UserError("it is in no list of decoder layers", location=name, hint="narrow linear_targets")
        found.setdefault(inside[1], {})[name] = linear
    return [(model.module.get_submodule(path), linears) for path, linears in found.items()]


def begun(model: InjectableModel, batch: Batch, layers: Sequence[torch.nn.Module]) -> LayerwiseState:
    """A batch that stands before the first decoder layer; none has run."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    first: list[torch.Tensor] = []

    def noted(hidden: torch.Tensor, *args: Any, **more: Any) -> torch.Tensor:
        if first and hidden is not first[0]:
            raise TypeError("the decoder does more between its layers than to hand on the hidden states")
        first.append(hidden)
        calls.append((args, more))
        if len(calls) == len(layers):
            raise _StopForward
        return hidden

    with _replaced(layers, noted), suppress(_StopForward):
        model.module(**batch, use_cache=False, logits_to_keep=1)
    kept = first[0].detach().to("cpu", copy=True)
    if first[0].device.type == "cuda":
        kept = kept.pin_memory()  # crosses over several times faster
    return LayerwiseState(kept, batch["attention_mask"].bool(), calls)


class _StopForward(Exception):
    """All layers have been called."""


@contextmanager
def _replaced(layers: Sequence[torch.nn.Module], forward: Any) -> Iterator[None]:
    """Another ``forward`` in the layers' place for the duration."""
    before = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        vars(layer)["forward"] = forward
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            if own is None:
                del vars(layer)["forward"]
            else:
                vars(layer)["forward"] = own
