"""What each row of a batch asks of Hugging Face's ``generate``: a repetition penalty and a limit of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from harness.models.greedy import penalise_repetition


class RowRepetitionPenalty(LogitsProcessor):
    """Hugging Face's repetition penalty with a factor for each row, which does not count padding as used.

    Args:
        factors: One for each row.
        prompts: The ids of each row's prompt, without padding.
        width: Number of columns of the padded prompts.
    """

    def __init__(self, factors: Sequence[float], prompts: Sequence[Sequence[int]], width: int) -> None:
        self._factors, self._width = factors, width
        self._prompts = [set(ids) for ids in prompts]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Lower the logits (rows, vocabulary) of each row's used tokens."""
        new = input_ids[:, self._width :].tolist()
        used = [prompt | set(ids) for prompt, ids in zip(self._prompts, new, strict=True)]
        scores = scores.clone()
        penalise_repetition(scores, self._factors, used)
        return scores


class RowLimits(StoppingCriteria):
    """Ends a row at its own limit of new tokens.

    Args:
        limits: One for each row.
        width: Number of columns of the padded prompts.
    """

    def __init__(self, limits: Sequence[int], width: int) -> None:
        self._limits, self._width = torch.tensor(limits), width

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """(rows,) bool: whether a row has reached its limit."""
        return (input_ids.shape[1] - self._width >= self._limits).to(input_ids.device)
