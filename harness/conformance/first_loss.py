"""What a method's ``loss`` returns before the first step, for the same rows cut in several ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from harness.conformance.errors import hook_errors
from harness.conformance.snapshot import snapshot
from harness.training.checkpoint import seed_everything

if TYPE_CHECKING:
    from harness.conformance.lifecycle import MethodLifecycle
    from harness.models.base import Batch


@dataclass(frozen=True)
class LossState:
    """What ``loss`` returned.

    Attributes:
        together: For a few rows in one micro-batch.
        single: For each of them in a micro-batch by itself.
        unsupervised: For a row without supervised tokens.
        side_effect: What calling it changed in the model; "" for nothing.
    """

    together: Any
    single: list[Any]
    unsupervised: Any
    side_effect: str


def first_loss(lifecycle: MethodLifecycle, rows: int = 3) -> LossState:
    """Call ``loss`` for the first training samples; random numbers that it draws are not missed later.

    Rows together and one by one are given the same random numbers, in the order of the rows.
    """
    model = lifecycle.model
    samples = lifecycle.samples[:rows]
    row, batch = model.training_batch(samples[:1]), model.training_batch(samples)
    model.module.train()
    with torch.random.fork_rng(devices=[]), hook_errors("loss"):
        seed_everything(lifecycle.seed)
        logits, targets = model.supervised(batch)
        before = snapshot(model.module)  # after the forward pass, whose own effects other checks find
        together = lifecycle.method.loss(model, batch, logits, targets)
        side_effect = before.difference(snapshot(model.module))
        if not model.module.training:
            side_effect = side_effect or "the model was in training mode and is in eval mode"
        seed_everything(lifecycle.seed)
        single = [_loss(lifecycle, model.training_batch([sample])) for sample in samples]
        empty = _loss(lifecycle, row.replace(labels=torch.full_like(row["labels"], -100)))
    return LossState(together, single, empty, side_effect)


def _loss(lifecycle: MethodLifecycle, batch: Batch) -> Any:
    logits, targets = lifecycle.model.supervised(batch)
    return lifecycle.method.loss(lifecycle.model, batch, logits, targets)
