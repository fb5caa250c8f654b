"""What is known and what is noise: intervals, paired tests, corrections. Arrays in, arrays out.

The unit of resampling is the cluster: questions that share an image stand or fall together. A benchmark's value is the
weighted mean of its items' scores, so everything here works on cluster sums.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]

DRAWS = 2_000
"""Bootstrap resamples behind an interval."""
FLIPS = 9_999
"""Sign flips behind a p value; the smallest p is then 1e-4."""
LEVEL = 0.95
ALPHA = 0.05
POWER = 0.80

_CHUNK = 4_000_000
"""Matrix cells held at once while resampling."""


def seed_of(name: str) -> int:
    """A seed that depends on a name alone, so that every report draws the same resamples."""
    return zlib.crc32(name.encode("utf-8"))


@dataclass(frozen=True)
class ClusterSums:
    """Scores summed within clusters.

    Args:
        scores: (clusters, rows) weighted sums of item scores, one column for each row of the table.
        weights: (clusters,) sums of item weights.
    """

    scores: Array
    weights: Array

    @classmethod
    def of(cls, values: Array, weights: Array, clusters: npt.NDArray[np.intp]) -> ClusterSums:
        """Sum (items, rows) values with (items,) weights over (items,) cluster numbers 0..k-1."""
        count = int(clusters.max()) + 1 if len(clusters) else 0
        scores = np.zeros((count, values.shape[1]))
        np.add.at(scores, clusters, values * weights[:, None])
        return cls(scores, np.bincount(clusters, weights=weights, minlength=count).astype(np.float64))

    def mean(self) -> Array:
        """(rows,) weighted means."""
        total = self.weights.sum()
        return self.scores.sum(axis=0) / total if total else np.full(self.scores.shape[1], np.nan)


def bootstrap(sums: ClusterSums, seed: int, draws: int = DRAWS) -> Array:
    """(draws, rows) means of resampled clusters. All rows share each resample, so differences are paired."""
    count, rows = sums.scores.shape
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
        totals = counts @ sums.weights
        with np.errstate(invalid="ignore", divide="ignore"):
            parts.append((counts @ sums.scores) / totals[:, None])
    return np.concatenate(parts)


def interval(draws: Array, clusters: int) -> tuple[float, float]:
    """The percentile interval of (draws,) bootstrap means at 95 %, widened for few clusters.

    A plain percentile interval is too narrow by sqrt((n-1)/n) and by normal instead of t quantiles; Hesterberg (2015),
    "What teachers should know about the bootstrap", section 5.3, moves the percentiles outwards to make up for it.
    """
    draws = draws[np.isfinite(draws)]
    if len(draws) == 0 or clusters < 2:
        return float("nan"), float("nan")
    tail = stats.t.ppf((1 - LEVEL) / 2, clusters - 1) * np.sqrt(clusters / (clusters - 1))
    low = float(stats.norm.cdf(tail))
    lower, upper = np.quantile(draws, [low, 1 - low])
    return float(lower), float(upper)


def boundary_interval(value: float, clusters: int) -> tuple[float, float] | None:
    """The exact interval, on 0-1, where every cluster scored 0 or every one scored 1; resampling would give no width.

    Clopper and Pearson (1934). None anywhere else.
    """
    if clusters < 1 or 0 < value < 1:
        return None
    far = float(((1 - LEVEL) / 2) ** (1 / clusters))
    return (0.0, 1 - far) if value <= 0 else (far, 1.0)


def sign_flips(differences: Array, weight: float, seed: int, flips: int = FLIPS) -> Array:
    """(flips, rows) mean differences had each cluster's two answers been swapped at random.

    Args:
        differences: (clusters, rows) weighted score minus the baseline's.
        weight: The sum of all weights.
        seed: Equal seeds flip equally, so differences of several rows stay paired.
        flips: Number of flips.
    """
    count = differences.shape[0]
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // max(count, 1))
    parts = []
    for start in range(0, flips, step):
        signs = generator.integers(0, 2, size=(min(step, flips - start), count), dtype=np.int8)
        parts.append((2.0 * signs - 1.0) @ differences / weight)
    return np.concatenate(parts)


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


def mcnemar(differences: Array) -> float | None:
    """The exact McNemar p value of (clusters,) differences, if all that differ do so by one same amount; else None."""
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
