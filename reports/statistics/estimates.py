"""What is computed from a run: every number with its interval, its difference from the baseline and its p value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from reports.record import Run
from reports.statistics import resampling
from reports.statistics.rows import ReportRow

Key = tuple[int, str]
"""Row number and key of the measure."""


@dataclass(frozen=True)
class Contrast:
    """One row minus another on the same questions.

    Args:
        delta: The difference, in points.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: Two-sided p value of the paired test.
        resolution: The minimum detectable difference with this many questions (80 % power).
        flip: Share of bootstrap resamples that reverse the order of the two.
    """

    delta: float
    low: float
    high: float
    p: float
    resolution: float
    flip: float

    def reversed(self) -> Contrast:
        """The second minus the first."""
        return Contrast(-self.delta, -self.high, -self.low, self.p, self.resolution, self.flip)


@dataclass(frozen=True)
class Estimate:
    """One number of a report, on 0-100 except for ``p`` and ``n``; NaN where it does not exist.

    Args:
        value: Mean over seeds.
        low: Lower end of the 95 % interval.
        high: Upper end.
        n: Number of questions.
        delta: Difference from the baseline.
        delta_low: Lower end of the difference's 95 % interval.
        delta_high: Upper end.
        p: Two-sided p value of the paired test against the baseline, Holm-corrected over the table.
        seeds: The number for each training seed.
        marks: What a reader must know, e.g. "rule-judge".
        resolution: The minimum detectable difference from the baseline with this many questions (80 % power).
        rank: 1 and 2 for the best and second best of the ranked rows, else 0.
        unread: Share of the answers that the benchmark's rule could not read.
        truncated: Share of the answers that were cut at the limit of new tokens.
        lenient: The number if answers that explain themselves are read leniently.
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
    unread: float = float("nan")
    truncated: float = float("nan")
    lenient: float = float("nan")

    @property
    def significant(self) -> bool:
        """Whether it differs from the baseline at the 5 % level after correction."""
        return self.p < resampling.ALPHA

    @property
    def seed_sd(self) -> float:
        """Standard deviation over training seeds; NaN for one seed."""
        return float(np.std(self.seeds, ddof=1)) if len(self.seeds) > 1 else float("nan")


@dataclass(frozen=True)
class Slice:
    """A fine-grained type of the adaptation benchmark, a whole group (then ``type`` is empty), or a kind of answer."""

    key: str
    """"group/type"; for a kind of answer without a slash."""
    group: str
    type: str
    n: int

    @property
    def by_answer(self) -> bool:
        """Whether the questions have a kind of answer in common, and not their type."""
        return "/" not in self.key


@dataclass(frozen=True)
class Pair:
    """Two ranked rows of one model compared on one measure; ``contrast.p`` is Holm-corrected over all pairs."""

    measure: str
    first: int
    second: int
    contrast: Contrast


@dataclass(frozen=True)
class Analysis:
    """Everything computed from a run.

    Args:
        run: The record that everything was computed from.
        rows: The rows of all tables, the untouched base first.
        adaptation: Name of the benchmark of new knowledge, or empty.
        retention: Names of the retention benchmarks of the run.
        main: The numbers of the main table.
        benchmarks: Those of the retention benchmarks, by their names without "mini-".
        types: Those of the fine-grained types, by "group/type/metric".
        slices: The types.
        pairs: Ranked rows against each other.
        against: For each row as a baseline every other row minus it, on all measures of the three tables.
        raw: All contrasts, first row minus second (the smaller number first), with uncorrected p values.
        covariances: For each row the variance of K.A, its covariance with K.R (v1), and the variance of K.R (v1).
        recentred: Benchmarks whose headline is not a mean over items.
        further: Names of the benchmarks beyond EVOKE and the twelve, whose numbers are among ``benchmarks``.
        editing: The numbers of editing's measures, by measure such as "locality/text"; empty if the run has none.
    """

    run: Run
    rows: tuple[ReportRow, ...]
    adaptation: str
    retention: tuple[str, ...]
    main: Mapping[Key, Estimate]
    benchmarks: Mapping[Key, Estimate]
    types: Mapping[Key, Estimate]
    slices: tuple[Slice, ...]
    pairs: tuple[Pair, ...]
    against: Mapping[int, Mapping[Key, Contrast]]
    raw: Mapping[tuple[int, int, str], Contrast]
    covariances: Mapping[int, tuple[float, float, float]]
    recentred: tuple[str, ...]
    further: tuple[str, ...] = ()
    editing: Mapping[Key, Estimate] = field(default_factory=dict)
