"""From benchmark scores to the paper's summary numbers. Versions 1 and 2 of the paper differ; never mix them.

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
"""The seven dimensions of retention and the benchmarks whose mean each is."""
TWELVE: tuple[str, ...] = tuple(name for names in DIMENSIONS.values() for name in names)


@dataclass(frozen=True)
class Summary:
    """The summary of one row of the table, all on 0-100. None where a benchmark that it needs is not scored."""

    adaptation: float | None
    """K.A."""
    dimensions: Mapping[str, float | None]
    retention_v1: float | None
    """K.R of paper version 1: the mean of the seven dimensions."""
    average_v1: float | None
    """``Avg`` of paper version 1: the headline of this program's tables."""
    retention_v2: float | None
    """K.R of paper version 2: the mean of the twelve benchmarks."""
    average_v2: float | None


def adaptation(cem: float, f1: float) -> float:
    """K.A = (CEM + F1) / 2, in the unit of its arguments."""
    return (cem + f1) / 2


def mean_or_none(values: tuple[float | None, ...]) -> float | None:
    """The mean, or None where any value is missing: a mean over what happens to be there would mislead."""
    known = [value for value in values if value is not None]
    return fmean(known) if values and len(known) == len(values) else None


def dimensions(scores: Mapping[str, float | None]) -> dict[str, float | None]:
    """Mean of each dimension's benchmarks; ``scores`` maps the twelve names to headlines on 0-100."""
    return {name: mean_or_none(tuple(scores.get(part) for part in parts)) for name, parts in DIMENSIONS.items()}


def summary(adapted: float | None, scores: Mapping[str, float | None]) -> Summary:
    """All summary numbers of one row.

    Args:
        adapted: K.A on 0-100.
        scores: Headlines of the twelve by name without any prefix, on 0-100.
    """
    by_dimension = dimensions(scores)
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
        None where it means nothing: no gain over the untouched model, nothing retained, or a base at 0.
    """
    if base_adapted <= 0 or base_retained <= 0 or not all(map(math.isfinite, (adapted, retained))):
        return None
    gain = 100 * (adapted / base_adapted - 1)
    kept = 100 * retained / base_retained
    if gain <= 0 or kept <= 0:
        return None
    adapting = 100 * gain / (gain + 100)
    return 2 * adapting * kept / (adapting + kept)
