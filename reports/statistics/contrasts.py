"""Every row against every other: the difference, its interval, its p value, and how often resampling reverses it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from reports.statistics import resampling, summary
from reports.statistics.estimates import Contrast, Estimate, Key
from reports.statistics.samples import BootstrapSample, PairedNull, Pairing

K = TypeVar("K")


@dataclass
class SampleSet:
    """Bootstrap samples and null distributions of one table, by measure."""

    samples: dict[Key, BootstrapSample] = field(default_factory=dict)
    nulls: dict[str, dict[Pairing, PairedNull]] = field(default_factory=dict)

    def add(self, measure: str, samples: Mapping[int, BootstrapSample], nulls: Mapping[Pairing, PairedNull]) -> None:
        """Add one metric of one block of rows."""
        self.samples.update({(row, measure): sample for row, sample in samples.items()})
        self.nulls.setdefault(measure, {}).update(nulls)

    def select(self, measures: Iterable[str]) -> SampleSet:
        """Return some of the measures."""
        selected = set(measures)
        return SampleSet(
            {key: sample for key, sample in self.samples.items() if key[1] in selected},
            {measure: nulls for measure, nulls in self.nulls.items() if measure in selected},
        )

    def estimates(self) -> dict[Key, Estimate]:
        """Return all numbers with their intervals."""
        return {key: sample.estimate() for key, sample in self.samples.items()}


def combine_nulls(parts: SampleSet, measure: str) -> dict[Pairing, PairedNull]:
    """Compute the null distributions of a summary from those of its parts: differences add up as scores do."""
    weights = summary.coefficients()[measure]
    by_part = [parts.nulls.get(part, {}) for part in weights]
    if len(by_part) == 1:
        return dict(by_part[0])
    shared = set(by_part[0]).intersection(*by_part[1:])
    return {
        pair: PairedNull(
            np.asarray(
                sum(np.float32(w) * nulls[pair].null for w, nulls in zip(weights.values(), by_part, strict=True)),
                dtype=np.float32,
            ),
            None,
        )
        for pair in sorted(shared)
    }


def compute_contrasts(table: SampleSet) -> dict[tuple[int, int, str], Contrast]:
    """Compute (first, second, measure) to first minus second, where first < second; p values are not yet corrected."""
    contrasts: dict[tuple[int, int, str], Contrast] = {}
    for measure, nulls in table.nulls.items():
        pairs = [pair for pair in nulls if all(_is_finite(table, row, measure) for row in pair)]
        if not pairs:
            continue
        first_draws, second_draws = (
            np.stack([table.samples[row, measure].draws for row in side], axis=1) for side in zip(*pairs, strict=True)
        )
        draws = first_draws - second_draws
        clusters = min(table.samples[first, measure].clusters for first, _ in pairs)
        lows, highs = resampling.percentile_intervals(draws, clusters)
        detectable = resampling.minimum_detectable_difference(draws)
        for place, (first, second) in enumerate(pairs):
            null = nulls[first, second]
            delta = table.samples[first, measure].value - table.samples[second, measure].value
            contrasts[first, second, measure] = Contrast(
                delta=delta,
                low=float(lows[place]),
                high=float(highs[place]),
                p=resampling.permutation_p_value(delta, null.null) if null.exact_p is None else null.exact_p,
                resolution=float(detectable[place]),
                flip=resampling.flip_rate(draws[:, place], delta),
            )
    return contrasts


def contrasts_with(base: int, contrasts: Mapping[tuple[int, int, str], Contrast]) -> dict[Key, Contrast]:
    """Return every other row minus ``base``, Holm-corrected over all of these tests."""
    oriented: dict[Key, Contrast] = {}
    for (first, second, measure), contrast in contrasts.items():
        if second == base:
            oriented[first, measure] = contrast
        elif first == base:
            oriented[second, measure] = contrast.reversed()
    return apply_holm(oriented)


def apply_holm(contrasts: Mapping[K, Contrast]) -> dict[K, Contrast]:
    """Return the same contrasts with Holm's correction over all of them."""
    p_values = resampling.holm_correction(np.array([contrast.p for contrast in contrasts.values()], dtype=np.float64))
    return {key: replace(contrast, p=float(p)) for (key, contrast), p in zip(contrasts.items(), p_values, strict=True)}


def _is_finite(table: SampleSet, row: int, measure: str) -> bool:
    sample = table.samples.get((row, measure))
    return sample is not None and bool(np.isfinite(sample.value))
