"""How far the rows of two matrices are from orthogonal to each other.

Source: O-LoRA, arXiv 2310.14152, and its code, which sums absolute entries where the paper squares them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

PUBLISHED_ENTRIES = 8 * 8 * 64
"""Number of entries that the published coefficient was chosen for: rank 8, on q and v of 32 layers."""


def overlap(current: torch.Tensor, earlier: torch.Tensor) -> torch.Tensor:
    """Sum of the absolute inner products of all rows; its gradient in ``current`` is sign(current earlier^T) earlier.

    Args:
        current: A of this stage (r, d_in).
        earlier: A of one or more earlier stages, stacked (rows, d_in).
    """
    with torch.autocast(current.device.type, enabled=False):
        return (current @ earlier.T).abs().sum()


def sum_overlap(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Sum over layers, entries and earlier stages, as in MCITlib's ``OLoRA/llava/train/llava_trainer.py``.

    Args:
        pairs: (current, earlier) of each layer, as for ``overlap``.
    """
    return torch.stack([overlap(current, earlier) for current, earlier in pairs]).sum()


def mean_overlap(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Mean over layers and r x r entries, summed over earlier stages; independent of rank and model size.

    Args:
        pairs: (current, earlier) of each layer, as for ``overlap``.
    """
    return torch.stack([overlap(current, earlier) / len(current) ** 2 for current, earlier in pairs]).mean()
