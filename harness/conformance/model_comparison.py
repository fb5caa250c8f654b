"""Comparisons of what a family gives with what the plain call gives."""

from __future__ import annotations

import torch

from harness.conformance.errors import CheckFailed
from harness.conformance.registry import require

TOLERANCE = 1e-3
"""Largest difference of logits that is rounding, as a share of the largest logit."""


def gap_of(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-6))


def require_close(one: torch.Tensor, other: torch.Tensor, what: str) -> None:
    """Fail unless two sets of logits (n, vocabulary) are equal up to rounding."""
    require(one.shape == other.shape, f"{what}: {tuple(one.shape)} logits instead of {tuple(other.shape)}")
    gap = gap_of(one, other)
    require(gap <= TOLERANCE, f"{what}: logits differ by {gap:.2g} of the largest one")


def kept_ids(ids: torch.Tensor, mask: torch.Tensor) -> list[int]:
    """The ids of a padded row, without padding."""
    kept: list[int] = ids[mask.bool()].tolist()
    return kept


def require_same(expected: list[list[int]], found: list[list[int]], what: str) -> None:
    """Fail unless the token ids of all rows are equal; the message names the first difference."""
    require(len(found) == len(expected), f"{what}: {len(found)} rows instead of {len(expected)}")
    for one, other in zip(expected, found, strict=True):
        place = next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
        if place is not None:
            raise CheckFailed(f"{what}: token {place} is {other[place]}, in the plain call {one[place]}")
        require(len(one) == len(other), f"{what}: {len(other)} tokens, in the plain call {len(one)}")
