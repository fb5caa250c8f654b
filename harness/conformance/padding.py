"""Other forms of a batch or a model that must give the same result: more padding, single rows, merged layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from benchmarks.records import Conversation
from harness.conformance.fakes import fresh_model
from harness.conformance.lifecycle import PROBE_SAMPLES, supervised_logits
from methods.components.lora_layers import target_layers

if TYPE_CHECKING:
    from harness.models.base import Batch, LanguageVisionModel

EXTRA_COLUMNS = 40
"""Columns of padding that ``pad`` adds on the right."""
_PADDING_VALUES = {"input_ids": 0, "attention_mask": 0, "labels": -100}


def pad(batch: Batch, *, left: bool = False) -> Batch:
    """The same rows (rows, tokens), with more padding on the right, or with all padding moved to the left."""
    lengths = batch["attention_mask"].sum(1).tolist()
    padded = dict(batch)
    for name, value in _PADDING_VALUES.items():
        source = batch[name]
        width = source.shape[1] + (0 if left else EXTRA_COLUMNS)
        padded[name] = torch.full((len(source), width), value, dtype=source.dtype)
        for row, length in enumerate(lengths):
            start = width - length if left else 0
            padded[name][row, start : start + length] = source[row, :length]
    return padded


def single_row_logits(model: LanguageVisionModel, samples: Sequence[Conversation]) -> torch.Tensor:
    """Concatenated logits of the samples, each in a batch by itself."""
    return torch.cat([supervised_logits(model, [sample]) for sample in samples])


@torch.no_grad()
def merged_logits(model: LanguageVisionModel) -> torch.Tensor:
    """Logits of the probe samples with each decoder linear replaced by one matrix: its output for the unit vectors.

    They equal the model's own logits if the layers are linear. The model is left as it was.
    """
    module = model.module
    module.eval()
    widths = {name: layer.in_features for name, layer in target_layers(fresh_model()).items()}
    layers = {name: module.get_submodule(name) for name in widths}
    try:
        for name, layer in layers.items():
            columns = layer(torch.eye(widths[name]).unsqueeze(0))[0]
            merged = torch.nn.Linear(columns.shape[0], columns.shape[1], bias=False)
            merged.weight.copy_(columns.T)
            module.set_submodule(name, merged)
        return supervised_logits(model, PROBE_SAMPLES)
    finally:
        for name, layer in layers.items():
            module.set_submodule(name, layer)
