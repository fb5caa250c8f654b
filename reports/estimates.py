"""What is computed from a run: every number with its interval, its difference to the baseline and its p value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reports import statistics
from reports.rows import Row
from reports.run import Run

Key = tuple[int, str]
"""Number of the row, and key of the measure."""


@dataclass(frozen=True)
class Estimate:
    """One number of a report. On 0-100 but for ``p`` and ``n``; NaN where there is nothing to say.

    Args:
        value: Mean over seeds.
        low: Lower end of the 95 % interval.
        high: Upper end.
        n: Questions behind the number.
        delta: Difference to the baseline.
        delta_low: Lower end of the difference's 95 % interval.
        delta_high: Upper end.
        p: Two-sided paired test against the baseline, Holm-corrected over the table.
        seeds: The number for each training seed.
        marks: What a reader must know, e.g. "rule-judge".
        resolution: The smallest true difference to the baseline that this many questions would reveal (80 % power).
        rank: 1 and 2 for the best and second best that may be ranked, else 0.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")
    n: int = 0
    delta: float = float("nan")
    delta_low: float = float("nan")
    delta_high: float = float("nan")
    p: float = float("nan")
    seeds: tuple[float, ...] = ()
    marks: tuple[str, ...] = ()
    resolution: float = float("nan")
    rank: int = 0

    @property
    def significant(self) -> bool:
        """Whether it differs from the baseline at 5 % after correction."""
        return self.p < statistics.ALPHA

    @property
    def spread(self) -> float:
        """Standard deviation over training seeds; NaN for one seed."""
        return float(np.std(self.seeds, ddof=1)) if len(self.seeds) > 1 else float("nan")


@dataclass(frozen=True)
class Slice:
    """A fine-grained type of the adaptation benchmark, or a whole group (then ``type`` is empty)."""

    key: str
    group: str
    type: str
    n: int


@dataclass(frozen=True)
class Pair:
    """Two ranked rows compared.

    Args:
        measure: What they are compared on.
        first: Number of a row.
        second: Number of another row of the same model.
        difference: First minus second.
        low: Lower end of the difference's 95 % interval.
        high: Upper end.
        p: Two-sided, from the bootstrap's standard error, Holm-corrected over all pairs and measures.
        flip: How often resampling the questions turns their order round.
    """

    measure: str
    first: int
    second: int
    difference: float
    low: float
    high: float
    p: float
    flip: float


@dataclass(frozen=True)
class Analysis:
    """Everything computed from a run. ``adaptation`` is the name of the benchmark of new knowledge, if there is one."""

    run: Run
    rows: tuple[Row, ...]
    adaptation: str
    retention: tuple[str, ...]
    main: Mapping[Key, Estimate]
    benchmarks: Mapping[Key, Estimate]
    types: Mapping[Key, Estimate]
    slices: tuple[Slice, ...]
    pairs: tuple[Pair, ...]
    recentred: tuple[str, ...]
