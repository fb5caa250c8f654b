"""The columns of the main table, and how resamples of the benchmarks become resamples of the summary numbers."""

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
"""What every summary is made of."""


@dataclass(frozen=True)
class Measure:
    """A column: its key, the heading above it and what it means."""

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


def canonical(benchmark: str) -> str:
    """A benchmark's name without what marks its miniature."""
    return benchmark.removeprefix("mini-")


def summarise(parts: Mapping[str, float]) -> dict[str, float]:
    """All linear summaries of one row from its parts on 0-100; NaN where a part is missing or not judged."""
    known = {name: value for name, value in parts.items() if math.isfinite(value)}
    adapted = aggregate.adaptation(known[CEM], known[F1]) if CEM in known and F1 in known else None
    whole = aggregate.summary(adapted, {name: known.get(name) for name in aggregate.TWELVE})
    found = {
        CEM: known.get(CEM),
        F1: known.get(F1),
        KA: whole.adaptation,
        **whole.dimensions,
        KR1: whole.retention_v1,
        AVG1: whole.average_v1,
        KR2: whole.retention_v2,
        AVG2: whole.average_v2,
    }
    return {name: math.nan if value is None else value for name, value in found.items()}


@cache
def coefficients() -> Mapping[str, Mapping[str, float]]:
    """How much each part weighs in each summary. The summaries are linear, so their definition itself can be asked."""
    weights: dict[str, dict[str, float]] = {}
    for part in PARTS:
        for name, value in summarise({one: float(one == part) for one in PARTS}).items():
            if value:
                weights.setdefault(name, {})[part] = value
    return weights


def combine(measure: str, draws: Mapping[str, Array]) -> Array | None:
    """Resamples of a summary from resamples of its parts, or None where one is missing."""
    weights = coefficients()[measure]
    if not weights.keys() <= draws.keys():
        return None
    return np.asarray(sum(weight * draws[part] for part, weight in weights.items()), dtype=np.float64)


def hars(adapted: Array, retained: Array, base_adapted: Array, base_retained: Array) -> Array:
    """HARS of each resample; NaN where it is undefined (no gain over the untouched base)."""
    rows = zip(adapted, retained, base_adapted, base_retained, strict=True)
    found = (aggregate.hars(*map(float, row)) for row in rows)
    return np.array([math.nan if value is None else value for value in found])
