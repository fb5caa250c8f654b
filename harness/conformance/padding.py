"""A batch or a model in another form that must give the same: more padding, rows alone, layers merged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from benchmarks.records import Conversation
from harness.conformance.fakes import fresh_model
from harness.conformance.lifecycle import PROBE, logits
from methods.components.lora_layers import target_layers

if TYPE_CHECKING:
    from harness.models.base import Batch, LanguageVisionModel

MORE = 40
"""Columns of padding added."""
_FILL = {"labels": -100}


def widened(batch: Batch, *, left: bool = False) -> Batch:
    """The same rows (rows, tokens), with more padding on the right, or with all padding moved to the left."""
    lengths = batch["attention_mask"].sum(1).tolist()
    made = dict(batch)
    for name in ("input_ids", "attention_mask", "labels"):
        old = batch[name]
        made[name] = torch.full((len(old), old.shape[1] + (0 if left else MORE)), _FILL.get(name, 0), dtype=old.dtype)
        for row, length in enumerate(lengths):
            first = made[name].shape[1] - length if left else 0
            made[name][row, first : first + length] = old[row, :length]
    return made


def alone(model: LanguageVisionModel, samples: Sequence[Conversation]) -> torch.Tensor:
    """Logits of each conversation in a batch of its own, one below the other."""
    return torch.cat([logits(model, [sample]) for sample in samples])


@torch.no_grad()
def merged_logits(model: LanguageVisionModel) -> torch.Tensor:
    """Logits of the probe with each decoder linear replaced by the one matrix that it amounts to, if it is linear.

    The matrix is what the layer makes of the unit vectors. Afterwards the model is as it was.
    """
    module = model.module
    module.eval()
    widths = {name: layer.in_features for name, layer in target_layers(fresh_model()).items()}
    layers = {name: module.get_submodule(name) for name in widths}
    try:
        for name, layer in layers.items():
            columns = layer(torch.eye(widths[name]).unsqueeze(0))[0]
            plain = torch.nn.Linear(columns.shape[0], columns.shape[1], bias=False)
            plain.weight.copy_(columns.T)
            module.set_submodule(name, plain)
        return logits(model, PROBE)
    finally:
        for name, layer in layers.items():
            module.set_submodule(name, layer)
