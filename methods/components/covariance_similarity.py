"""How alike two covariances are, and a small picture of one.

Source: KORE, arXiv 2510.19316v2, figures 4c, 8 and 9, which show pictures; the numbers are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from benchmarks.records import Conversation
from methods.components.covariance import covariances
from methods.components.input_moments import Norm
from methods.components.null_space import bottom_eigenvectors

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel

OUTLIERS = 0.001
"""Share of the entries on and below the diagonal that count as outliers: those with the largest absolute values."""
COSINE, BOTTOM, OUTLIER = "cosine of covariances", "overlap of bottom subspaces", "overlap of outliers"


@dataclass(frozen=True)
class CovarianceSummary:
    """What is compared of a covariance, on the CPU.

    Attributes:
        covariance: C (d, d).
        bottom: (d, r), the directions with the least energy.
        outliers: As ``outlier_positions`` gives them.
    """

    covariance: torch.Tensor
    bottom: torch.Tensor
    outliers: frozenset[int]


def summarize(
    model: InjectableModel, prompts: Sequence[Conversation], ranks: Mapping[str, int], norm: Norm = "token-mean"
) -> dict[str, CovarianceSummary]:
    """Summaries of the inputs of some linear layers, by the first of those that read the same input.

    Args:
        model: The untouched model; it runs no further than the last of the layers.
        prompts: What it is asked.
        ranks: Names of the layers, and r of each.
        norm: How tokens are weighted.

    Raises:
        UserError: There are no prompts, an activation is not finite, or r is above the layer's number of inputs.
    """
    found: dict[str, CovarianceSummary] = {}
    for part in covariances(model, prompts, norm, names=ranks.keys()):
        bottom = bottom_eigenvectors(part.covariance, ranks[part.layers[0]], model.device).cpu()
        found[part.layers[0]] = CovarianceSummary(part.covariance, bottom, outlier_positions(part.covariance))
    return found


def similarities(a: CovarianceSummary, b: CovarianceSummary) -> dict[str, float]:
    """Every measure of how alike two are, in [0, 1]."""
    return {
        COSINE: cosine(a.covariance, b.covariance),
        BOTTOM: subspace_overlap(a.bottom, b.bottom),
        OUTLIER: outlier_overlap(a.outliers, b.outliers),
    }


def chance(summary: CovarianceSummary) -> dict[str, float]:
    """The mean of the measures for two that have nothing in common; a cosine has none, because C is not negative."""
    size, rank = summary.bottom.shape
    return {BOTTOM: rank / size, OUTLIER: len(summary.outliers) / (size * (size + 1) / 2)}


def max_pooled(covariance: torch.Tensor, size: int) -> torch.Tensor:
    """The largest absolute value in each of ``size`` x ``size`` blocks; a smaller matrix is as it is.

    Args:
        covariance: C (d, d).
        size: Lines and columns of the picture.
    """
    picture = torch.nn.functional.adaptive_max_pool2d(covariance.abs()[None], min(size, len(covariance)))
    return picture[0]


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    """Cosine of the angle between two covariances as vectors: <A, B> / (|A| |B|), in [0, 1] for covariances."""
    return float(torch.dot(a.flatten().double(), b.flatten().double()) / (a.double().norm() * b.double().norm()))


def subspace_overlap(u: torch.Tensor, v: torch.Tensor) -> float:
    """|U^T V|_F^2 / r, in [0, 1]: the mean share of a direction of one subspace that lies in the other.

    Two random subspaces of r of d dimensions have r / d in the mean.

    Args:
        u: (d, r), orthonormal columns.
        v: Likewise.
    """
    return float((u.T @ v).square().sum()) / u.shape[1]


def outlier_positions(covariance: torch.Tensor, share: float = OUTLIERS) -> frozenset[int]:
    """The places on and below the diagonal of C (d, d) whose absolute values are the largest.

    Args:
        covariance: C.
        share: Their share of these places; at least one.
    """
    rows, columns = torch.tril_indices(len(covariance), len(covariance))
    values = covariance[rows, columns].abs()
    return frozenset(torch.topk(values, max(1, math.floor(share * len(values)))).indices.tolist())


def outlier_overlap(a: frozenset[int], b: frozenset[int]) -> float:
    """The share of one covariance's outliers that are outliers of the other, of equally many each."""
    return len(a & b) / len(a)
