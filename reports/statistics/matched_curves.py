"""Two curves of retention over adaptation, compared where both pass the same adaptation. Arrays in, numbers out.

Retention is interpolated between neighbouring points, never extrapolated. Where a curve passes a level twice (a setting
too strong unlearns again), the better retention counts, for that is what a user would choose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from reports.statistics import resampling as statistics
from reports.statistics.resampling import Array

MISSED = 0.05
"""Share of resamples that may fail to reach the level; with more of them there is no honest interval."""


@dataclass(frozen=True)
class RetentionCurve:
    """A curve's scores on 0-100, each with its resamples.

    Args:
        adaptation: (points, seeds, 1 + draws) in the order of the setting; first the score itself, then its resamples.
        retention: Likewise. Resamples of all traces are of the same questions, so that differences are paired.
        seeds: The training seeds.
        clusters: Independent groups of questions.
    """

    adaptation: Array
    retention: Array
    seeds: tuple[int, ...]
    clusters: int

    def unpaired(self) -> RetentionCurve:
        """The same with questions resampled for each seed on its own, not alike for all seeds."""
        draws = self.adaptation.shape[2] - 1
        shifts = [seed * draws // len(self.seeds) for seed in range(len(self.seeds))]
        moved = [each.copy() for each in (self.adaptation, self.retention)]
        for each in moved:
            for seed, shift in enumerate(shifts):
                each[:, seed, 1:] = np.roll(each[:, seed, 1:], shift, axis=1)
        return replace(self, adaptation=moved[0], retention=moved[1])

    def at(self, level: float, weights: Array, part: slice) -> Array:
        """(draws,) retention at a level, the seeds weighed by (draws, seeds), of some of the resamples."""
        x, y = ((each[:, :, part] * weights.T).sum(axis=1) for each in (self.adaptation, self.retention))
        return retention_at(x, y, level)


@dataclass(frozen=True)
class MatchedComparison:
    """Two curves at one adaptation; NaN where there is nothing to say, and then ``reason`` says why.

    Args:
        low: From where both reach an adaptation.
        high: Up to where.
        level: The middle, where they are compared.
        kept: Retention of both there.
        difference: First minus second.
        interval: Its 95 % interval.
        p: Two-sided, not corrected.
        reason: What keeps them from being compared, or nothing.
    """

    low: float = math.nan
    high: float = math.nan
    level: float = math.nan
    kept: tuple[float, float] = (math.nan, math.nan)
    difference: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)
    p: float = math.nan
    reason: str = ""


def compare(first: RetentionCurve, second: RetentionCurve) -> MatchedComparison:
    """Two curves in the middle of the adaptation that both reach.

    Questions are resampled in whole clusters, and training seeds, both alike for the two curves. The variances of the
    two add up; what they both hold, for each seed answers each question anew, is taken off once (Cameron, Gelbach and
    Miller 2011). The interval has t quantiles with the degrees of freedom of both sources (Satterthwaite 1946).
    """
    if first.seeds != second.seeds:
        return MatchedComparison(reason="they were not trained with the same seeds")
    seeds = len(first.seeds)
    reached = [trace.adaptation[:, :, 0].mean(axis=1) for trace in (first, second)]
    low, high = max(float(each.min()) for each in reached), min(float(each.max()) for each in reached)
    if low > high:
        one, other = (f"{each.min():.2f} to {each.max():.2f}" for each in reached)
        return MatchedComparison(reason=f"no adaptation is reached by both: {one}, and {other}")
    level = (low + high) / 2
    even, drawn = np.full((1, seeds), 1 / seeds), seed_weights(seeds, first.adaptation.shape[2] - 1)
    own, resampled = slice(0, 1), slice(1, None)
    kept = (float(first.at(level, even, own)[0]), float(second.at(level, even, own)[0]))
    found = MatchedComparison(low, high, level, kept, kept[0] - kept[1])
    questions, training = (
        first.at(level, weights, part) - second.at(level, weights, part)
        for weights, part in ((even, resampled), (drawn, own))
    )
    apart = first.unpaired().at(level, even, resampled) - second.unpaired().at(level, even, resampled)
    missed = max(float(np.mean(~np.isfinite(draws))) for draws in (questions, training))
    if missed > MISSED:
        return replace(found, reason=f"{100 * missed:.0f} % of the resamples do not reach this adaptation")
    sources = [(_variance(questions), min(first.clusters, second.clusters) - 1), (_variance(training), seeds - 1)]
    largest = max(variance for variance, _ in sources)
    error = math.sqrt(max(largest, sum(variance for variance, _ in sources) - _variance(apart) * (seeds > 1)))
    interval, p = _judged(found.difference, error, _freedom(sources))
    return replace(found, interval=interval, p=p)


def retention_at(adaptation: Array, retention: Array, level: float) -> Array:
    """The best retention where a curve passes a level of adaptation; NaN where it does not.

    Args:
        adaptation: (points, draws), in the order of the setting.
        retention: Likewise.
        level: On the scale of the adaptation.

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
    """(draws, seeds) weights of resampled seeds, with the variance of a mean over so few."""
    if seeds == 1:
        return np.ones((draws, 1))
    generator = np.random.default_rng(statistics.seed_of(f"{seeds} seeds"))
    counts = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
    return np.asarray((1 + math.sqrt(seeds / (seeds - 1)) * (counts - 1)) / seeds)


def _variance(draws: Array) -> float:
    known = draws[np.isfinite(draws)]
    return float(np.var(known)) if len(known) else 0.0


def _freedom(sources: Sequence[tuple[float, int]]) -> float:
    """Degrees of freedom of a sum of variances, each with its own."""
    parts = [(variance, degrees) for variance, degrees in sources if variance > 0 and degrees > 0]
    total = sum(variance for variance, _ in parts)
    return total**2 / sum(variance**2 / degrees for variance, degrees in parts) if parts else math.inf


def _judged(observed: float, error: float, freedom: float) -> tuple[tuple[float, float], float]:
    """The interval and the two-sided p value of a difference with this standard error."""
    reach = error * float(stats.t.ppf((1 + statistics.LEVEL) / 2, freedom))
    p = 2 * stats.t.sf(abs(observed) / error, freedom) if error else observed == 0
    return (observed - reach, observed + reach), float(p)
