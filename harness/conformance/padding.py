"""Other forms of a batch or a model that must give the same result: more padding, single rows, merged layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from benchmarks.records import Conversation
from harness.conformance.lifecycle import supervised_logits
from methods.components.lora_layers import target_layers

if TYPE_CHECKING:
    from harness.models.base import Batch, LanguageVisionModel

EXTRA_COLUMNS = 40
"""Columns of padding that ``pad`` adds on the right."""
_PADDING_VALUES = {"labels": -100}
"""Of a column that is padding; 0 in all other parts of a batch."""


def pad(batch: Batch, *, left: bool = False) -> Batch:
    """The same rows (rows, tokens), with more padding on the right, or with all padding moved to the left."""
    lengths = batch["attention_mask"].sum(1).tolist()
    rows, columns = batch["input_ids"].shape
    width = columns + (0 if left else EXTRA_COLUMNS)
    padded = dict(batch)
    for name, source in batch.items():
        if source.shape[-2:] != (rows, columns) or source.is_floating_point():  # pictures
            continue
        padded[name] = source.new_full((*source.shape[:-1], width), _PADDING_VALUES.get(name, 0))
        for row, length in enumerate(lengths):
            start = width - length if left else 0
            padded[name][..., row, start : start + length] = source[..., row, :length]
    return batch.replace(**padded)


def single_row_logits(model: LanguageVisionModel, samples: Sequence[Conversation]) -> torch.Tensor:
    """Concatenated logits of the samples, each in a batch by itself."""
    return torch.cat([supervised_logits(model, [sample]) for sample in samples])


@torch.no_grad()
def merged_logits(model: LanguageVisionModel, base: LanguageVisionModel) -> torch.Tensor:
    """Logits of the probe samples with each decoder linear replaced by one matrix: its output for the unit vectors.

    They equal the model's own logits if the layers are linear. The model is left as it was.

    Args:
        model: With an adapter.
        base: The same without.
    """
    module = model.module
    module.eval()
    widths = {name: layer.in_features for name, layer in target_layers(base).items()}
    layers = {name: module.get_submodule(name) for name in widths}
    try:
        for name, layer in layers.items():
            shift = layer(torch.zeros(1, 1, widths[name]))[0, 0]  # the layer's own bias
            columns = layer(torch.eye(widths[name]).unsqueeze(0))[0] - shift
            merged = torch.nn.Linear(columns.shape[0], columns.shape[1])
            merged.weight.copy_(columns.T)
            merged.bias.copy_(shift)
            module.set_submodule(name, merged)
        return supervised_logits(model)
    finally:
        for name, layer in layers.items():
            module.set_submodule(name, layer)
