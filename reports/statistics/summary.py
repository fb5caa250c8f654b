"""The columns of the main table, such as Avg, and how they are computed from benchmarks and from their resamples.

The formulas themselves are in ``benchmarks.aggregate``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks import aggregate
from reports.statistics.resampling import Array

CEM, F1 = "CEM", "F1"
KA, KR1, AVG1, KR2, AVG2, HARS = "K.A", "K.R (v1)", "Avg (v1)", "K.R (v2)", "Avg (v2)", "HARS (v2)"
PARTS: tuple[str, ...] = (CEM, F1, *aggregate.TWELVE)
"""The scores from which every summary is computed."""


@dataclass(frozen=True)
class Measure:
    """A column: its key, the group it belongs to and what it means."""

    key: str
    group: str
    help: str


_DIMENSION_NAMES = {
    "COM": "comprehensive evaluation",
    "OCR": "reading text in pictures",
    "M-DIS": "questions of several disciplines",
    "INS": "following instructions",
    "M-IDU": "dialogues over several pictures",
    "MAT": "mathematics",
    "HAL": "resisting hallucination",
}

MAIN: tuple[Measure, ...] = (
    Measure(CEM, "Adaptation", "share of new-knowledge answers that contain the reference"),
    Measure(F1, "Adaptation", "word overlap of new-knowledge answers with the reference"),
    Measure(KA, "Adaptation", "adaptation: mean of CEM and F1"),
    *(
        Measure(name, "Retention by dimension", f"{_DIMENSION_NAMES[name]}: {' and '.join(parts)}")
        for name, parts in aggregate.DIMENSIONS.items()
    ),
    Measure(KR1, "Summary, paper v1", "retention: mean of the seven dimensions"),
    Measure(AVG1, "Summary, paper v1", "mean of K.A and K.R (v1); the headline"),
    Measure(KR2, "Summary, paper v2", "retention: mean of the twelve benchmarks"),
    Measure(AVG2, "Summary, paper v2", "mean of K.A and K.R (v2)"),
    Measure(HARS, "Summary, paper v2", "harmonic mean of the gain in K.A and the share of K.R (v2) kept"),
)


DIMENSION_OF = {part: name for name, parts in aggregate.DIMENSIONS.items() for part in parts}
"""Benchmark to its dimension."""
FURTHER = "Further"
"""The group of benchmarks beyond EVOKE and the twelve, which are part of no summary."""


def canonical(benchmark: str) -> str:
    """Return a benchmark's name without the prefix of its miniature."""
    return benchmark.removeprefix("mini-")


def summarize(parts: Mapping[str, float]) -> dict[str, float]:
    """Compute all linear summaries of one row from its parts on 0-100; NaN where a part is missing or not judged."""
    known = {name: value for name, value in parts.items() if math.isfinite(value)}
    adapted = aggregate.adaptation(known[CEM], known[F1]) if CEM in known and F1 in known else None
    means = aggregate.summarize(adapted, {name: known.get(name) for name in aggregate.TWELVE})
    summaries = {
        CEM: known.get(CEM),
        F1: known.get(F1),
        KA: means.adaptation,
        **means.dimensions,
        KR1: means.retention_v1,
        AVG1: means.average_v1,
        KR2: means.retention_v2,
        AVG2: means.average_v2,
    }
    return {name: math.nan if value is None else value for name, value in summaries.items()}


@cache
def coefficients() -> Mapping[str, Mapping[str, float]]:
    """Return the weight of each part in each summary. Summaries are linear, so unit vectors reveal their weights."""
    weights: dict[str, dict[str, float]] = {}
    for part in PARTS:
        for name, value in summarize({other: float(other == part) for other in PARTS}).items():
            if value:
                weights.setdefault(name, {})[part] = value
    return weights


def combine(measure: str, draws: Mapping[str, Array]) -> Array | None:
    """Compute resamples of a summary from those of its parts; None if one is missing."""
    weights = coefficients()[measure]
    if not weights.keys() <= draws.keys():
        return None
    return np.asarray(sum(weight * draws[part] for part, weight in weights.items()), dtype=np.float64)


def hars(adapted: Array, retained: Array, base_adapted: Array, base_retained: Array) -> Array:
    """Compute HARS of each resample; NaN where it is undefined (no gain over the untouched base)."""
    rows = zip(adapted, retained, base_adapted, base_retained, strict=True)
    values = (aggregate.hars(*map(float, row)) for row in rows)
    return np.array([math.nan if value is None else value for value in values])
