"""Gradient checkpointing: the layers keep only their inputs, and compute the rest again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from benchmarks.errors import UserError

FLAG, FUNCTION = "gradient_checkpointing", "_gradient_checkpointing_func"
"""What transformers' own switch sets, in every version. The switch itself has been renamed, and warns."""


@contextmanager
def gradient_checkpointing(module: torch.nn.Module, enabled: bool = True) -> Iterator[None]:
    """Recompute the activations of each layer in the backward pass within the block, in training mode only.

    The same operations are run again on the same inputs, with the same random numbers, so that losses and gradients are
    the same bits. Statistics that are measured in eval mode are not affected.

    Args:
        module: A model of transformers, with or without adapters.
        enabled: Otherwise the block changes nothing.

    Raises:
        UserError: No layer of the model supports it.
    """
    parts = [part for part in module.modules() if hasattr(part, FLAG)] if enabled else []
    if enabled and not parts:
        raise UserError(
            f"no layer of {type(module).__name__} supports gradient checkpointing",
            location="training.gradient_checkpointing",
            hint="set it to false, and lower training.micro_batch to save memory",
        )
    before: list[dict[str, Any]] = [
        {name: vars(part)[name] for name in (FLAG, FUNCTION) if name in vars(part)} for part in parts
    ]
    for part in parts:
        setattr(part, FLAG, True)
        setattr(part, FUNCTION, partial(checkpoint, use_reentrant=False))
    try:
        yield
    finally:
        for part, own in zip(parts, before, strict=True):
            for name in (FLAG, FUNCTION):
                if name in own:
                    setattr(part, name, own[name])
                else:
                    vars(part).pop(name, None)
