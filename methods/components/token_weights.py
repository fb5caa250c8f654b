"""Weights of single tokens in the loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

TOP = 20
"""Most likely tokens over which the entropy is taken."""


def entropy_weights(logits: torch.Tensor) -> torch.Tensor:
    """How undecided the model is at each position, from 0 to 1.

    The entropy of the ``TOP`` most likely tokens, whose probabilities are made to add up to 1, divided by its largest
    value, the logarithm of their number. No gradient passes through it.

    Args:
        logits: (n, vocabulary).

    Returns:
        (n,), at least in float32.

    Source: Entropy-Adaptive Fine-Tuning, arXiv 2601.02151, with exponent 1.
    """
    import torch

    logits = logits.detach()
    count = min(TOP, logits.shape[-1])
    top = logits.to(torch.promote_types(logits.dtype, torch.float32)).topk(count, dim=-1).values
    logs = top.log_softmax(dim=-1)
    return -(logs.exp() * logs).sum(dim=-1) / math.log(count)
