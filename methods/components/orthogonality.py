"""How far the rows of two matrices are from being orthogonal to each other.

Source: O-LoRA, arXiv 2310.14152, and its code, which sums absolute entries where the paper squares them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

PUBLISHED_ENTRIES = 8 * 8 * 64
"""Entries that the published coefficient was chosen for: rank 8, on the q and v of 32 layers."""


def overlap(now: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
    """Sum of the absolute inner products of all rows; its gradient by ``now`` is sign(now past^T) past.

    Args:
        now: A of this stage (r, d_in).
        past: A of one or more earlier stages, below each other (rows, d_in).
    """
    with torch.autocast(now.device.type, enabled=False):
        return (now @ past.T).abs().sum()


def mean_overlap(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Mean over layers and r x r entries, summed over earlier stages: it grows with neither the rank nor the model.

    Args:
        pairs: (now, past) of each layer, as ``overlap`` takes them.
    """
    return torch.stack([overlap(now, past) / len(now) ** 2 for now, past in pairs]).mean()
