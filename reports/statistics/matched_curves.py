"""Compare two curves of retention over adaptation at the same adaptation. Arrays in, numbers out.

Retention is interpolated between neighbouring points, never extrapolated. If a curve passes a level twice (too strong a
setting can reduce adaptation again), the better retention counts, because a user would choose that one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from reports.statistics import resampling
from reports.statistics.resampling import Array


@dataclass(frozen=True)
class RetentionCurve:
    """The scores of one method over a sweep, on 0-100, each with its resamples.

    Args:
        adaptation: (points, seeds, 1 + draws) in the order of the setting; the score itself first, then its resamples.
        retention: Likewise. Resamples of all curves are of the same questions, so that differences are paired.
        seeds: The training seeds.
        clusters: Independent groups of questions.
    """

    adaptation: Array
    retention: Array
    seeds: tuple[int, ...]
    clusters: int

    def unpaired(self) -> RetentionCurve:
        """Return the same curve with questions resampled independently for each seed."""
        draws = self.adaptation.shape[2] - 1
        shifts = [seed * draws // len(self.seeds) for seed in range(len(self.seeds))]
        rolled = [scores.copy() for scores in (self.adaptation, self.retention)]
        for scores in rolled:
            for seed, shift in enumerate(shifts):
                scores[:, seed, 1:] = np.roll(scores[:, seed, 1:], shift, axis=1)
        return replace(self, adaptation=rolled[0], retention=rolled[1])

    def at(self, level: float, weights: Array, draws: slice) -> Array:
        """Return (draws,) retention at a level for some of the resamples; seeds are weighted by (draws, seeds)."""
        x, y = ((scores[:, :, draws] * weights.T).sum(axis=1) for scores in (self.adaptation, self.retention))
        return retention_at(x, y, level)


@dataclass(frozen=True)
class MatchedComparison:
    """Two curves at one adaptation; NaN where they cannot be compared, and then ``reason`` says why.

    Args:
        low: Lower end of the adaptation that both reach.
        high: Upper end.
        level: The middle, where they are compared.
        retention: Retention of both at that level.
        difference: First minus second.
        interval: Its 95 % interval.
        p: Two-sided, not corrected.
        reason: Why they cannot be compared, or empty.
    """

    low: float = math.nan
    high: float = math.nan
    level: float = math.nan
    retention: tuple[float, float] = (math.nan, math.nan)
    difference: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)
    p: float = math.nan
    reason: str = ""


def compare_curves(first: RetentionCurve, second: RetentionCurve) -> MatchedComparison:
    """Compare two curves in the middle of the adaptation that both reach.

    Questions (in whole clusters) and training seeds are resampled, identically for the two curves. Their variances add
    up; the part that both contain, because each seed answers each question anew, is subtracted once (Cameron, Gelbach
    and Miller 2011). The interval uses t quantiles with the degrees of freedom of both sources (Satterthwaite 1946).
    """
    if first.seeds != second.seeds:
        return MatchedComparison(reason="they were not trained with the same seeds")
    seeds = len(first.seeds)
    reached = [curve.adaptation[:, :, 0].mean(axis=1) for curve in (first, second)]
    low, high = max(float(x.min()) for x in reached), min(float(x.max()) for x in reached)
    if low > high:
        one, other = (f"{x.min():.2f} to {x.max():.2f}" for x in reached)
        return MatchedComparison(reason=f"no adaptation is reached by both: {one}, and {other}")
    level = (low + high) / 2
    equal, drawn = np.full((1, seeds), 1 / seeds), seed_weights(seeds, first.adaptation.shape[2] - 1)
    measured, resampled = slice(0, 1), slice(1, None)
    retention = (float(first.at(level, equal, measured)[0]), float(second.at(level, equal, measured)[0]))
    comparison = MatchedComparison(low, high, level, retention, retention[0] - retention[1])
    questions, training = (
        first.at(level, weights, draws) - second.at(level, weights, draws)
        for weights, draws in ((equal, resampled), (drawn, measured))
    )
    unpaired = first.unpaired().at(level, equal, resampled) - second.unpaired().at(level, equal, resampled)
    missed = max(float(np.mean(~np.isfinite(draws))) for draws in (questions, training))
    if missed > resampling.MAX_UNDEFINED:
        return replace(comparison, reason=f"{100 * missed:.0f} % of the resamples do not reach this adaptation")
    sources = [(_variance(questions), min(first.clusters, second.clusters) - 1), (_variance(training), seeds - 1)]
    largest = max(variance for variance, _ in sources)
    total = sum(variance for variance, _ in sources) - _variance(unpaired) * (seeds > 1)
    interval, p = _t_test(comparison.difference, math.sqrt(max(largest, total)), _degrees_of_freedom(sources))
    return replace(comparison, interval=interval, p=p)


def retention_at(adaptation: Array, retention: Array, level: float) -> Array:
    """Interpolate the best retention at which a curve passes a level of adaptation; NaN if it does not.

    Args:
        adaptation: (points, draws), in the order of the setting.
        retention: Likewise.
        level: Adaptation, on the same scale.

    Returns:
        (draws,).
    """
    x0, x1, y0, y1 = adaptation[:-1], adaptation[1:], retention[:-1], retention[1:]
    width = x1 - x0
    share = np.divide(level - x0, width, out=np.zeros_like(width), where=width != 0)
    passed = np.where(width != 0, y0 + np.clip(share, 0, 1) * (y1 - y0), np.maximum(y0, y1))
    inside = (np.minimum(x0, x1) <= level) & (level <= np.maximum(x0, x1))
    best = np.where(inside, passed, -np.inf).max(axis=0)
    return np.where(np.isfinite(best), best, np.nan)


def seed_weights(seeds: int, draws: int) -> Array:
    """Draw (draws, seeds) weights of resampled seeds, scaled to the variance of a mean over so few."""
    if seeds == 1:
        return np.ones((draws, 1))
    generator = np.random.default_rng(resampling.seed_from_name(f"{seeds} seeds"))
    counts = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
    return np.asarray((1 + math.sqrt(seeds / (seeds - 1)) * (counts - 1)) / seeds)


def _variance(draws: Array) -> float:
    finite = draws[np.isfinite(draws)]
    return float(np.var(finite)) if len(finite) else 0.0


def _degrees_of_freedom(sources: Sequence[tuple[float, int]]) -> float:
    """Satterthwaite's degrees of freedom of a sum of variances, each with its own."""
    parts = [(variance, degrees) for variance, degrees in sources if variance > 0 and degrees > 0]
    total = sum(variance for variance, _ in parts)
    return total**2 / sum(variance**2 / degrees for variance, degrees in parts) if parts else math.inf


def _t_test(observed: float, error: float, freedom: float) -> tuple[tuple[float, float], float]:
    """The interval and the two-sided p value of a difference with this standard error."""
    half_width = error * float(stats.t.ppf((1 + resampling.CONFIDENCE_LEVEL) / 2, freedom))
    p = 2 * stats.t.sf(abs(observed) / error, freedom) if error else observed == 0
    return (observed - half_width, observed + half_width), float(p)
