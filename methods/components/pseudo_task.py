"""A short training on old data, inside ``prepare``: what a LoRA would have learnt in a stage before the first."""

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
"""Conversations in one step."""


def train_lora(
    model: InjectableModel, settings: AdapterSettings, samples: Sequence[Conversation], epochs: int
) -> Tensors:
    """Train a LoRA on the samples by AdamW at a constant rate, take it out again, and give its factors.

    The projector is left alone. A starts elsewhere than the adapter of the first stage, which the same seed draws.

    Args:
        model: The untouched model; untouched again afterwards.
        settings: Of the adapter.
        samples: What to learn.
        epochs: Passes over them, each in another order.

    Returns:
        ``<layer>.A`` (rank, d_in) and ``<layer>.B`` (d_out, rank).

    Raises:
        UserError: The training diverged.
    """
    settings, draw = dataclasses.replace(settings, projector_learning_rate=0.0), random.Random(torch.initial_seed())
    training = model.module.training
    attach_lora(model, settings)
    try:
        for name, layer in lora_layers(model.module):
            seeded_uniform_(lora_ab(layer)[0], f"{name}/pseudo-task")
        parameters = [parameter for parameter in model.module.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        model.module.train()
        for _ in range(epochs):
            order = draw.sample(samples, len(samples))
            for start in range(0, len(order), BATCH):
                logits, targets = model.supervised(model.training_batch(order[start : start + BATCH]))
                torch.autograd.backward(cross_entropy(logits.float(), targets))
                norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                if not torch.isfinite(norm):
                    raise UserError("it diverged", location="pseudo-task", hint="lower the learning rate")
                optimizer.step()
                optimizer.zero_grad()
        found = {}
        for name, layer in lora_layers(model.module):
            for letter, factor in zip("AB", lora_ab(layer), strict=True):
                found[f"{name}.{letter}"] = factor.detach().cpu().clone()
        return found
    finally:
        detach_adapter(model)
        model.module.train(training)
