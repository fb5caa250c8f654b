"""A short training on a sample of the replay pool, inside ``prepare``: a stand-in for a stage before the first."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from benchmarks.errors import UserError
from benchmarks.records import Conversation
from methods.components.lora_layers import attach_lora, detach_adapter, lora_ab, lora_layers, seeded_uniform_

if TYPE_CHECKING:
    from methods.interfaces import AdapterSettings, InjectableModel, Tensors

BATCH = 8
"""Conversations per step."""


def train_lora(
    model: InjectableModel, settings: AdapterSettings, samples: Sequence[Conversation], epochs: int
) -> Tensors:
    """Train a LoRA on the samples with AdamW at a constant learning rate, detach it, and return its factors.

    The projector is not trained. A starts from other values than that of the first stage, which has the same seed.

    Args:
        model: The untouched model; untouched again afterwards.
        settings: Settings of the adapter.
        samples: The training data.
        epochs: Passes over the samples, each in another order.

    Returns:
        ``<layer>.A`` (rank, d_in) and ``<layer>.B`` (d_out, rank).

    Raises:
        UserError: The training diverged.
    """
    settings, rng = dataclasses.replace(settings, projector_learning_rate=0.0), random.Random(torch.initial_seed())
    training = model.module.training
    attach_lora(model, settings)
    try:
        for name, layer in lora_layers(model.module):
            seeded_uniform_(lora_ab(layer)[0], f"{name}/pseudo-task")
        parameters = [parameter for parameter in model.module.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        model.module.train()
        for _ in range(epochs):
            order = rng.sample(samples, len(samples))
            for start in range(0, len(order), BATCH):
                logits, targets = model.supervised(model.training_batch(order[start : start + BATCH]))
                torch.autograd.backward(cross_entropy(logits.float(), targets))
                norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                if not torch.isfinite(norm):
                    raise UserError("the training diverged", location="pseudo-task", hint="lower the learning rate")
                optimizer.step()
                optimizer.zero_grad()
        return {
            f"{name}.{letter}": factor.detach().cpu().clone()
            for name, layer in lora_layers(model.module)
            for letter, factor in zip("AB", lora_ab(layer), strict=True)
        }
    finally:
        detach_adapter(model)
        model.module.train(training)
