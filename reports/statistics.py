"""What is known and what is noise: intervals, paired tests, corrections. Arrays in, arrays out.

The unit of resampling is the cluster: questions that share an image stand or fall together. Every score is a mean of
ratios of sums over clusters (``headlines`` says which), so everything here works on cluster sums.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

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
        count = int(clusters.max()) + 1 if len(clusters) else 0
        sums = []
        for values in (over, under):
            total = np.zeros((count, *values.shape[1:]))
            np.add.at(total, clusters, values)
            sums.append(total)
        return cls(*sums)

    def value(self) -> Array:
        """(rows,) scores."""
        return mean_of_ratios(self.over.sum(axis=0), self.under.sum(axis=0))


def mean_of_ratios(over: Array, under: Array) -> Array:
    """Mean over the last axis of ``over / under``, leaving out ratios of nothing; NaN where all are."""
    there = under > 0
    ratios = np.divide(over, under, out=np.zeros_like(over), where=there)
    count = there.sum(axis=-1)
    means: Array = np.divide(ratios.sum(axis=-1), count, out=np.full(count.shape, np.nan), where=count > 0)
    return means


def bootstrap(sums: ClusterSums, seed: int, draws: int = DRAWS) -> Array:
    """(draws, rows) scores of resampled clusters. All rows share each resample, so differences are paired."""
    count, *shape = sums.over.shape
    if count == 0:
        return np.full((draws, shape[0]), np.nan)
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // count)
    parts = []
    for start in range(0, draws, step):
        size = min(step, draws - start)
        picks = generator.integers(0, count, size=(size, count))
        picks += np.arange(size)[:, None] * count
        counts = np.bincount(picks.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
        over, under = ((counts @ part.reshape(count, -1)).reshape(size, *shape) for part in (sums.over, sums.under))
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


def swaps(sums: ClusterSums, baselines: Mapping[int, int], seed: int, flips: int = FLIPS) -> dict[int, Array]:
    """For each row (flips,) differences to its baseline had each cluster's two answers been swapped at random.

    Args:
        sums: Of all rows.
        baselines: Number of each tested row to that of its baseline.
        seed: Equal seeds swap equally, so differences of several rows stay paired.
        flips: Number of repetitions.
    """
    rows, bases = list(baselines), list(baselines.values())
    count = len(sums.over)
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // max(count, 1))
    gaps = [part[:, rows] - part[:, bases] for part in (sums.over, sums.under)]
    parts = []
    for start in range(0, flips, step):
        size = min(step, flips - start)
        swapped = generator.integers(0, 2, size=(size, count), dtype=np.int8).astype(np.float64)
        moved = [(swapped @ gap.reshape(count, -1)).reshape(size, *gap.shape[1:]) for gap in gaps]
        ones = [part[:, bases].sum(axis=0) + move for part, move in zip((sums.over, sums.under), moved, strict=True)]
        others = [part[:, rows].sum(axis=0) - move for part, move in zip((sums.over, sums.under), moved, strict=True)]
        parts.append(mean_of_ratios(*ones) - mean_of_ratios(*others))
    nulls = np.concatenate(parts)
    return {row: nulls[:, place] for place, row in enumerate(rows)}


def p_value(observed: float, null: Array) -> float:
    """Two-sided: how often chance alone moves the mean at least this far. Never 0 (Phipson and Smyth 2010)."""
    if not np.isfinite(observed):
        return float("nan")
    beyond = int(np.count_nonzero(np.abs(null) >= abs(observed) - 1e-12))
    return (beyond + 1) / (len(null) + 1)


def bootstrap_p(observed: float, draws: Array) -> float:
    """Two-sided p value of a difference over the standard error of its (draws,) bootstrap values."""
    error = float(np.nanstd(draws))
    if error == 0:
        return 1.0 if observed == 0 else 0.0
    return float(2 * stats.norm.sf(abs(observed) / error))


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
        corrected[known] = multipletests(p_values[known], alpha=ALPHA, method="holm")[1]
    return corrected


def smallest_difference(draws: Array) -> float:
    """The true difference that would be found at p < .05 in 80 % of repetitions, from (draws,) paired differences."""
    reach = stats.norm.ppf(1 - ALPHA / 2) + stats.norm.ppf(POWER)
    return float(reach * np.nanstd(draws))


def flip_rate(draws: Array, observed: float) -> float:
    """How often resampling turns the order of two rows round; ties count half."""
    if not np.isfinite(observed):
        return float("nan")
    if observed == 0:
        return 0.5
    signs = np.sign(draws) * np.sign(observed)
    return float(np.mean(signs < 0) + 0.5 * np.mean(signs == 0))
