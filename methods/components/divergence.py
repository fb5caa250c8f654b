"""How far apart two models' distributions of the next token are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DISTRIBUTIONS = 5
"""Tensors of (supervised tokens, vocabulary) while the divergence is computed: the teacher's logits, the logarithms of
both distributions, and their products."""


def divergence(teacher: torch.Tensor, student: torch.Tensor, direction: str) -> torch.Tensor:
    """The sum over rows of KL(teacher || student), or of KL(student || teacher) for ``reverse``.

    Args:
        teacher: Logits (n, vocabulary), without a graph.
        student: Logits (n, vocabulary).
        direction: forward or reverse.
    """
    from torch.nn.functional import kl_div, log_softmax

    target, prediction = (log_softmax(logits, dim=-1) for logits in (teacher, student))
    if direction == "reverse":
        target, prediction = prediction, target
    return kl_div(prediction, target, reduction="sum", log_target=True)
