"""Aggregate benchmark scores into the paper's summary numbers. Versions 1 and 2 of the paper differ; never mix them.

Source: KORE (arXiv 2510.19316) v1 and v2, section 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

DIMENSIONS: Mapping[str, tuple[str, ...]] = {
    "COM": ("MME", "MMBench"),
    "OCR": ("SEEDBench2_Plus", "OCRVQA"),
    "M-DIS": ("ScienceQA", "MMMU"),
    "INS": ("MIA-Bench",),
    "M-IDU": ("MMDU",),
    "MAT": ("MathVista", "MathVision"),
    "HAL": ("POPE", "HallusionBench"),
}
"""The seven retention dimensions; each is the mean of its benchmarks."""
TWELVE: tuple[str, ...] = tuple(name for names in DIMENSIONS.values() for name in names)


@dataclass(frozen=True)
class Summary:
    """The summary of one table row, all on 0-100. None if a benchmark that a value needs is not scored."""

    adaptation: float | None
    """K.A."""
    dimensions: Mapping[str, float | None]
    retention_v1: float | None
    """K.R of paper version 1: the mean of the seven dimensions."""
    average_v1: float | None
    """``Avg`` of paper version 1: the headline of the tables."""
    retention_v2: float | None
    """K.R of paper version 2: the mean of the twelve benchmarks."""
    average_v2: float | None


def adaptation(cem: float, f1: float) -> float:
    """K.A = (CEM + F1) / 2, in the unit of its arguments."""
    return (cem + f1) / 2


def mean_or_none(values: tuple[float | None, ...]) -> float | None:
    """The mean, or None if any value is missing: a mean over the available values would mislead."""
    present = [value for value in values if value is not None]
    return fmean(present) if values and len(present) == len(values) else None


def dimension_means(scores: Mapping[str, float | None]) -> dict[str, float | None]:
    """Mean of each dimension's benchmarks; ``scores`` maps the twelve names to headlines on 0-100."""
    return {name: mean_or_none(tuple(scores.get(part) for part in parts)) for name, parts in DIMENSIONS.items()}


def summarize(adapted: float | None, scores: Mapping[str, float | None]) -> Summary:
    """Compute all summary numbers of one row.

    Args:
        adapted: K.A on 0-100.
        scores: Headlines of the twelve by name without prefix, on 0-100.
    """
    by_dimension = dimension_means(scores)
    seven = mean_or_none(tuple(by_dimension.values()))
    twelve = mean_or_none(tuple(scores.get(name) for name in TWELVE))
    return Summary(
        adaptation=adapted,
        dimensions=by_dimension,
        retention_v1=seven,
        average_v1=mean_or_none((adapted, seven)),
        retention_v2=twelve,
        average_v2=mean_or_none((adapted, twelve)),
    )


def hars(adapted: float, retained: float, base_adapted: float, base_retained: float) -> float | None:
    """Harmonic adaptation-retention score of paper version 2, on 0-100.

    Both gains over the untouched model are relative, in percent: ``f_A = 100 G_A / (G_A + 100)`` saturates,
    ``f_R = G_R + 100`` is the share of the retention kept; HARS is their harmonic mean.

    Args:
        adapted: K.A of the trained model.
        retained: Version 2's K.R of the trained model.
        base_adapted: K.A of the untouched model.
        base_retained: Version 2's K.R of the untouched model.

    Returns:
        None if undefined: no gain over the untouched model, nothing retained, or a base score of 0.
    """
    if base_adapted <= 0 or base_retained <= 0 or not all(map(math.isfinite, (adapted, retained))):
        return None
    gain = 100 * (adapted / base_adapted - 1)
    share_retained = 100 * retained / base_retained
    if gain <= 0 or share_retained <= 0:
        return None
    saturated_gain = 100 * gain / (gain + 100)
    return 2 * saturated_gain * share_retained / (saturated_gain + share_retained)
