"""What is known and what is noise: intervals, paired tests, corrections. Arrays in, arrays out.

The unit of resampling is the cluster: questions that share an image stand or fall together. Every score is a mean of
ratios of sums over clusters (``headlines`` says which), so everything here works on cluster sums.
"""

from __future__ import annotations

import gc
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]

DRAWS = 2_000
"""Bootstrap resamples behind an interval."""
FLIPS = 9_999
"""Random swaps behind a p value; the smallest p is then 1e-4."""
LEVEL = 0.95
ALPHA = 0.05
POWER = 0.80

_CHUNK = 4_000_000
"""Matrix cells held at once while resampling."""


def seed_of(name: str) -> int:
    """A seed that depends on a name alone, so that every report draws the same resamples."""
    return zlib.crc32(name.encode("utf-8", "backslashreplace"))


@dataclass(frozen=True)
class ClusterSums:
    """What the clusters add to the ratios whose mean is a score.

    Args:
        over: (clusters, rows, ratios) above the line, one row for each row of the table.
        under: (clusters, rows, ratios) below the line.
    """

    over: Array
    under: Array

    @classmethod
    def of(cls, over: Array, under: Array, clusters: npt.NDArray[np.intp]) -> ClusterSums:
        """Sum two (items, rows, ratios) arrays over (items,) cluster numbers 0..k-1."""
        if not len(clusters):
            return cls(np.zeros((0, *over.shape[1:])), np.zeros((0, *under.shape[1:])))
        order = np.argsort(clusters, kind="stable")
        starts = np.flatnonzero(np.diff(clusters[order], prepend=-1))
        return cls(*(np.add.reduceat(values[order], starts, axis=0) for values in (over, under)))

    def value(self) -> Array:
        """(rows,) scores."""
        return mean_of_ratios(self.over.sum(axis=0), self.under.sum(axis=0))

    @cached_property
    def even(self) -> bool:
        """Whether all rows stand on the same line. Scores are then linear in what the clusters add above it."""
        return bool((self.under == self.under[:, :1]).all())

    @cached_property
    def shares(self) -> Array:
        """(clusters, rows) what each cluster adds to the score, if ``even``."""
        total = self.under[:, 0].sum(axis=0)
        there = total > 0
        shares: Array = (self.over[:, :, there] / total[there]).sum(axis=2) / max(int(there.sum()), 1)
        return shares


def mean_of_ratios(over: Array, under: Array) -> Array:
    """Mean over the last axis of ``over / under``, leaving out ratios of nothing; NaN where all are."""
    there = np.broadcast_to(under > 0, over.shape)
    ratios = np.divide(over, under, out=np.zeros_like(over), where=there)
    count = there.sum(axis=-1)
    means: Array = np.divide(ratios.sum(axis=-1), count, out=np.full(count.shape, np.nan), where=count > 0)
    return means


def bootstrap(sums: ClusterSums, seed: int, draws: int = DRAWS) -> Array:
    """(draws, rows) scores of resampled clusters. All rows share each resample, so differences are paired."""
    count, rows, _ = sums.over.shape
    if count == 0:
        return np.full((draws, rows), np.nan)
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // count)
    parts = []
    for start in range(0, draws, step):
        size = min(step, draws - start)
        picks = generator.integers(0, count, size=(size, count))
        picks += np.arange(size)[:, None] * count
        counts = np.bincount(picks.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
        below = sums.under[:, :1] if sums.even else sums.under
        over, under = ((counts @ part.reshape(count, -1)).reshape(size, *part.shape[1:]) for part in (sums.over, below))
        parts.append(mean_of_ratios(over, under))
    return np.concatenate(parts)


def interval(draws: Array, clusters: int) -> tuple[float, float]:
    """The percentile interval of (draws,) bootstrap means at 95 %, widened for few clusters.

    A plain percentile interval is too narrow by sqrt((n-1)/n) and by normal instead of t quantiles; Hesterberg (2015),
    "What teachers should know about the bootstrap", section 5.3, moves the percentiles outwards to make up for it.
    """
    draws = draws[np.isfinite(draws)]
    if len(draws) == 0 or clusters < 2:
        return float("nan"), float("nan")
    low = _percentile(clusters)
    lower, upper = np.quantile(draws, [low, 1 - low])
    return float(lower), float(upper)


@cache
def _percentile(clusters: int) -> float:
    tail = stats.t.ppf((1 - LEVEL) / 2, clusters - 1) * np.sqrt(clusters / (clusters - 1))
    return float(stats.norm.cdf(tail))


def boundary_interval(value: float, clusters: int) -> tuple[float, float] | None:
    """The exact interval, on 0-1, where every cluster scored 0 or every one scored 1; resampling would give no width.

    Clopper and Pearson (1934). None anywhere else.
    """
    if clusters < 1 or 0 < value < 1:
        return None
    far = float(((1 - LEVEL) / 2) ** (1 / clusters))
    return (0.0, 1 - far) if value <= 0 else (far, 1.0)


def intervals(draws: Array, clusters: int) -> tuple[Array, Array]:
    """``interval`` of each column of (draws, columns); NaN where a draw is."""
    if clusters < 2 or not len(draws):
        return np.full(draws.shape[1], np.nan), np.full(draws.shape[1], np.nan)
    low = _percentile(clusters)
    lower, upper = np.quantile(draws, [low, 1 - low], axis=0)
    return lower, upper


def permutation_null(sums: ClusterSums, pairs: Sequence[tuple[int, int]], seed: int, flips: int = FLIPS) -> Array:
    """(pairs, flips) differences, first row minus second, had each cluster's two answers been swapped at random.

    Args:
        sums: Of all rows.
        pairs: Two numbers of rows each.
        seed: Equal seeds swap equally, so the differences of several measures stay paired.
        flips: Number of repetitions.
    """
    firsts, seconds = [list(side) for side in zip(*pairs, strict=True)] if pairs else ([], [])
    count = len(sums.over)
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // max(count, 1))
    nulls = np.zeros((len(pairs), flips))
    for start in range(0, flips, step):
        size = min(step, flips - start)
        swapped = generator.integers(0, 2, size=(size, count), dtype=np.int8).astype(np.float64)
        nulls[:, start : start + size] = _swapped(sums, firsts, seconds, swapped).T
    return nulls


def _swapped(sums: ClusterSums, firsts: list[int], seconds: list[int], swapped: Array) -> Array:
    """(repetitions, pairs) differences, where ``swapped`` (repetitions, clusters) says which answers change sides."""
    if sums.even:
        gaps = sums.shares[:, firsts] - sums.shares[:, seconds]
        return np.asarray((1 - 2 * swapped) @ gaps)
    sides = []
    for mine, others in ((firsts, seconds), (seconds, firsts)):
        over, under = (
            part[:, mine].sum(axis=0)
            + (swapped @ (part[:, others] - part[:, mine]).reshape(len(part), -1)).reshape(
                len(swapped), len(mine), part.shape[2]
            )
            for part in (sums.over, sums.under)
        )
        sides.append(mean_of_ratios(over, under))
    return np.asarray(sides[0] - sides[1])


def p_value(observed: float, null: npt.NDArray[np.floating]) -> float:
    """Two-sided: how often chance alone moves the mean at least this far. Never 0 (Phipson and Smyth 2010).

    Where no repetition goes as far, a p value cannot be told from 1 / repetitions by counting. Hoeffding's bound on
    sums of random signs (1963, theorem 2) then says more: P(|sum| >= t) <= 2 exp(-t^2 / (2 variance)). The variance is
    that of the repetitions, taken 10 % larger for its own error.
    """
    if not np.isfinite(observed):
        return float("nan")
    beyond = int(np.count_nonzero(np.abs(null) >= abs(observed) * (1 - 1e-6) - 1e-9))
    counted = (beyond + 1) / (len(null) + 1)
    if beyond:
        return counted
    variance = 1.1 * float(np.var(null, dtype=np.float64))
    bound = 2 * np.exp(-(observed**2) / (2 * variance)) if variance > 0 else 1.0
    return min(counted, max(float(bound), float(np.finfo(float).tiny)))


def mcnemar(sums: ClusterSums, row: int, base: int) -> float | None:
    """The exact McNemar p value of two rows whose clusters are each right or wrong; None for graded scores."""
    if sums.over.shape[2] != 1 or not np.array_equal(sums.under[:, row], sums.under[:, base]):
        return None
    differences = sums.over[:, row, 0] - sums.over[:, base, 0]
    moved = differences[np.abs(differences) > 1e-12]
    if len(moved) == 0:
        return 1.0
    if not np.allclose(np.abs(moved), np.abs(moved[0])):
        return None
    return float(stats.binomtest(int(np.count_nonzero(moved > 0)), len(moved), 0.5).pvalue)


def holm(p_values: Array) -> Array:
    """Holm's step-down correction over all finite entries; the others stay NaN."""
    from statsmodels.stats.multitest import multipletests  # heavy, and only reports need it

    corrected = np.full(p_values.shape, np.nan)
    known = np.isfinite(p_values)
    if known.any():
        gc.freeze()  # it collects garbage each time, which takes long among the objects of a large run
        try:
            corrected[known] = multipletests(p_values[known], alpha=ALPHA, method="holm")[1]
        finally:
            gc.unfreeze()
    return corrected


def minimum_detectable_difference(draws: Array) -> Array:
    """The true difference that would be found at p < .05 in 80 % of repetitions, from paired differences on axis 0."""
    reach = stats.norm.ppf(1 - ALPHA / 2) + stats.norm.ppf(POWER)
    return np.asarray(reach * np.std(draws, axis=0))


def flip_rate(draws: Array, observed: float) -> float:
    """How often resampling turns the order of two rows round; ties count half."""
    if not np.isfinite(observed):
        return float("nan")
    if observed == 0:
        return 0.5
    signs = np.sign(draws) * np.sign(observed)
    return float(np.mean(signs < 0) + 0.5 * np.mean(signs == 0))
