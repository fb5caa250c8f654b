"""Where intervals and p values come from: clustered bootstrap, paired permutation test, Holm's correction.

Arrays in, arrays out. The unit of resampling is the cluster: questions that share an image are drawn together. Every
score is a mean of ratios of sums over clusters (``ratios.py`` has the rule of each benchmark), so everything here works
on cluster sums.
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

N_BOOTSTRAP = 2_000
"""Bootstrap resamples behind an interval."""
N_PERMUTATIONS = 9_999
"""Random swaps behind a p value. Counting alone gives no p below 1e-4."""
CONFIDENCE_LEVEL = 0.95
ALPHA = 0.05
POWER = 0.80

MAX_UNDEFINED = 0.05
"""Largest share of resamples in which a number may be undefined; beyond it no interval is given."""

_CHUNK = 4_000_000
"""Matrix cells in memory at once while resampling."""


def seed_from_name(name: str) -> int:
    """Return a seed that depends on the name alone, so that every report draws the same resamples."""
    return zlib.crc32(name.encode("utf-8", "backslashreplace"))


@dataclass(frozen=True)
class ClusterSums:
    """What each cluster adds to the ratios whose mean is a score.

    Args:
        numerators: (clusters, rows, ratios), with one row for each row of the table.
        denominators: (clusters, rows, ratios).
    """

    numerators: Array
    denominators: Array

    @classmethod
    def from_items(cls, numerators: Array, denominators: Array, clusters: npt.NDArray[np.intp]) -> ClusterSums:
        """Sum two (items, rows, ratios) arrays over (items,) cluster numbers 0..k-1."""
        if not len(clusters):
            return cls(np.zeros((0, *numerators.shape[1:])), np.zeros((0, *denominators.shape[1:])))
        order = np.argsort(clusters, kind="stable")
        starts = np.flatnonzero(np.diff(clusters[order], prepend=-1))
        return cls(*(np.add.reduceat(values[order], starts, axis=0) for values in (numerators, denominators)))

    def scores(self) -> Array:
        """(rows,) scores in 0-1."""
        return mean_of_ratios(self.numerators.sum(axis=0), self.denominators.sum(axis=0))

    @cached_property
    def equal_denominators(self) -> bool:
        """Whether all rows share their denominators. Scores are then linear in the numerators."""
        return bool((self.denominators == self.denominators[:, :1]).all())

    @cached_property
    def contributions(self) -> Array:
        """(clusters, rows) what each cluster adds to the score; only valid with ``equal_denominators``."""
        total = self.denominators[:, 0].sum(axis=0)
        used = total > 0
        contributions: Array = (self.numerators[:, :, used] / total[used]).sum(axis=2) / max(int(used.sum()), 1)
        return contributions


def mean_of_ratios(numerators: Array, denominators: Array) -> Array:
    """Average ``numerators / denominators`` over the last axis, skipping zero denominators; NaN if all are zero."""
    used = np.broadcast_to(denominators > 0, numerators.shape)
    ratios = np.divide(numerators, denominators, out=np.zeros_like(numerators), where=used)
    count = used.sum(axis=-1)
    means: Array = np.divide(ratios.sum(axis=-1), count, out=np.full(count.shape, np.nan), where=count > 0)
    return means


def clustered_bootstrap(sums: ClusterSums, seed: int, n_resamples: int = N_BOOTSTRAP) -> Array:
    """Return (n_resamples, rows) scores of resampled clusters.

    All rows share each resample, so differences between rows are paired.
    """
    count, rows, _ = sums.numerators.shape
    if count == 0:
        return np.full((n_resamples, rows), np.nan)
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // count)
    denominators = sums.denominators[:, :1] if sums.equal_denominators else sums.denominators
    chunks = []
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        picks = generator.integers(0, count, size=(size, count))
        picks += np.arange(size)[:, None] * count
        counts = np.bincount(picks.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
        resampled = (
            (counts @ part.reshape(count, -1)).reshape(size, *part.shape[1:])
            for part in (sums.numerators, denominators)
        )
        chunks.append(mean_of_ratios(*resampled))
    return np.concatenate(chunks)


def percentile_interval(draws: Array, clusters: int) -> tuple[float, float]:
    """Return the 95 % percentile interval of (n,) bootstrap scores, widened for few clusters.

    A plain percentile interval is too narrow by sqrt((n-1)/n) and by using normal instead of t quantiles. Hesterberg
    (2015), "What teachers should know about the bootstrap", section 5.3, moves the percentiles outwards to correct it.

    NaN if more than 5 % of the draws are: an interval of the others would leave out what made those undefined.
    """
    if len(draws) and np.mean(~np.isfinite(draws)) > MAX_UNDEFINED:
        return float("nan"), float("nan")
    lower, upper = percentile_intervals(draws[np.isfinite(draws)][:, None], clusters)
    return float(lower[0]), float(upper[0])


def percentile_intervals(draws: Array, clusters: int) -> tuple[Array, Array]:
    """``percentile_interval`` of each column of (n, columns); NaN for a column with a NaN."""
    if clusters < 2 or not len(draws):
        return np.full(draws.shape[1], np.nan), np.full(draws.shape[1], np.nan)
    low = _expanded_percentile(clusters)
    lower, upper = np.quantile(draws, [low, 1 - low], axis=0)
    return lower, upper


@cache
def _expanded_percentile(clusters: int) -> float:
    tail = stats.t.ppf((1 - CONFIDENCE_LEVEL) / 2, clusters - 1) * np.sqrt(clusters / (clusters - 1))
    return float(stats.norm.cdf(tail))


def boundary_interval(score: float, clusters: int) -> tuple[float, float] | None:
    """Return the exact interval, on 0-1, if every cluster scored 0 or every cluster scored 1; else None.

    The bootstrap would give an interval without width there. Clopper and Pearson (1934).
    """
    if clusters < 1 or not (score <= 0 or score >= 1):  # NaN is neither: there is no score
        return None
    bound = float(((1 - CONFIDENCE_LEVEL) / 2) ** (1 / clusters))
    return (0.0, 1 - bound) if score <= 0 else (bound, 1.0)


def permutation_null(
    sums: ClusterSums, pairs: Sequence[tuple[int, int]], seed: int, n_permutations: int = N_PERMUTATIONS
) -> Array:
    """Sample the null distribution of a paired permutation test: each cluster's two answers are swapped at random.

    Args:
        sums: Of all rows.
        pairs: Two row numbers each.
        seed: Equal seeds swap equally, so the differences of several measures stay paired.
        n_permutations: Number of repetitions.

    Returns:
        (pairs, n_permutations) differences, first row minus second.
    """
    firsts, seconds = [list(side) for side in zip(*pairs, strict=True)] if pairs else ([], [])
    count = len(sums.numerators)
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // max(count, 1))
    nulls = np.zeros((len(pairs), n_permutations))
    for start in range(0, n_permutations, step):
        size = min(step, n_permutations - start)
        swapped = generator.integers(0, 2, size=(size, count), dtype=np.int8).astype(np.float64)
        nulls[:, start : start + size] = _swapped_differences(sums, firsts, seconds, swapped).T
    return nulls


def _swapped_differences(sums: ClusterSums, firsts: list[int], seconds: list[int], swapped: Array) -> Array:
    """(repetitions, pairs) differences, with the answers swapped where ``swapped`` (repetitions, clusters) is 1."""
    if sums.equal_denominators:
        gaps = sums.contributions[:, firsts] - sums.contributions[:, seconds]
        return np.asarray((1 - 2 * swapped) @ gaps)
    sides = []
    for mine, others in ((firsts, seconds), (seconds, firsts)):
        permuted = (
            part[:, mine].sum(axis=0)
            + (swapped @ (part[:, others] - part[:, mine]).reshape(len(part), -1)).reshape(
                len(swapped), len(mine), part.shape[2]
            )
            for part in (sums.numerators, sums.denominators)
        )
        sides.append(mean_of_ratios(*permuted))
    return np.asarray(sides[0] - sides[1])


def permutation_p_value(observed: float, null: npt.NDArray[np.floating]) -> float:
    """Return the two-sided p value of a difference under ``permutation_null``. Never 0 (Phipson and Smyth 2010).

    If no repetition is as extreme as the observed difference, counting cannot resolve p below 1 / repetitions.
    Hoeffding's bound on sums of random signs (1963, theorem 2) then says more: P(|sum| >= t) <= 2 exp(-t^2 / (2
    variance)). The variance is that of the repetitions, increased by 10 % for its own error.
    """
    if not np.isfinite(observed):
        return float("nan")
    as_extreme = int(np.count_nonzero(np.abs(null) >= abs(observed) * (1 - 1e-6) - 1e-9))
    counted = (as_extreme + 1) / (len(null) + 1)
    if as_extreme:
        return counted
    variance = 1.1 * float(np.var(null, dtype=np.float64))
    bound = 2 * np.exp(-(observed**2) / (2 * variance)) if variance > 0 else 1.0
    return min(counted, max(float(bound), float(np.finfo(float).tiny)))


def mcnemar_p_value(sums: ClusterSums, row: int, base: int) -> float | None:
    """Return McNemar's exact p value of two rows if each cluster is either right or wrong; None for graded scores."""
    if sums.numerators.shape[2] != 1 or not np.array_equal(sums.denominators[:, row], sums.denominators[:, base]):
        return None
    differences = sums.numerators[:, row, 0] - sums.numerators[:, base, 0]
    discordant = differences[np.abs(differences) > 1e-12]
    if len(discordant) == 0:
        return 1.0
    if not np.allclose(np.abs(discordant), np.abs(discordant[0])):
        return None
    return float(stats.binomtest(int(np.count_nonzero(discordant > 0)), len(discordant), 0.5).pvalue)


def holm_correction(p_values: Array) -> Array:
    """Apply Holm's step-down correction over all finite entries; the others stay NaN."""
    from statsmodels.stats.multitest import multipletests  # slow to import, and only reports need it

    corrected = np.full(p_values.shape, np.nan)
    finite = np.isfinite(p_values)
    if finite.any():
        gc.freeze()  # statsmodels collects garbage on each call, which is slow among the objects of a large run
        try:
            corrected[finite] = multipletests(p_values[finite], alpha=ALPHA, method="holm")[1]
        finally:
            gc.unfreeze()
    return corrected


def minimum_detectable_difference(draws: Array) -> Array:
    """Return the true difference detected at p < .05 with 80 % power, from paired bootstrap differences on axis 0."""
    standard_errors = stats.norm.ppf(1 - ALPHA / 2) + stats.norm.ppf(POWER)
    return np.asarray(standard_errors * np.std(draws, axis=0))


def flip_rate(draws: Array, observed: float) -> float:
    """Return the share of bootstrap differences that reverse the order of two rows; ties count half."""
    if not np.isfinite(observed):
        return float("nan")
    if observed == 0:
        return 0.5
    signs = np.sign(draws) * np.sign(observed)
    return float(np.mean(signs < 0) + 0.5 * np.mean(signs == 0))
