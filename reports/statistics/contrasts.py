"""Every row against every other: the difference, its interval, its test and how often resampling turns it round."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from reports.statistics import resampling as statistics
from reports.statistics import summary
from reports.statistics.estimates import Contrast, Key
from reports.statistics.samples import BootstrapSample, PairedNull

Pairing = tuple[int, int]
"""Two numbers of rows, the smaller one first."""
K = TypeVar("K")


@dataclass
class SampleSet:
    """Samples and matches of one table, by what is measured."""

    samples: dict[Key, BootstrapSample] = field(default_factory=dict)
    matches: dict[str, dict[Pairing, PairedNull]] = field(default_factory=dict)

    def add(self, part: str, samples: Mapping[int, BootstrapSample], matches: Mapping[Pairing, PairedNull]) -> None:
        """Take in one metric of one block of rows."""
        self.samples.update({(row, part): sample for row, sample in samples.items()})
        self.matches.setdefault(part, {}).update(matches)

    def only(self, parts: Iterable[str]) -> SampleSet:
        """Some of the measures."""
        kept = set(parts)
        return SampleSet(
            {key: sample for key, sample in self.samples.items() if key[1] in kept},
            {part: matches for part, matches in self.matches.items() if part in kept},
        )


def combined(pool: SampleSet, measure: str) -> dict[Pairing, PairedNull]:
    """Matches of a summary out of those of its parts: differences add up as the scores do."""
    weights = summary.coefficients()[measure]
    parts = [pool.matches.get(part, {}) for part in weights]
    if len(parts) == 1:
        return dict(parts[0])
    shared = set(parts[0]).intersection(*parts[1:])
    return {
        pair: PairedNull(
            np.asarray(
                sum(np.float32(w) * part[pair].null for w, part in zip(weights.values(), parts, strict=True)),
                dtype=np.float32,
            ),
            None,
        )
        for pair in sorted(shared)
    }


def contrasts(pool: SampleSet) -> dict[tuple[int, int, str], Contrast]:
    """(first, second, measure) to first minus second, p values not yet corrected; the first is the smaller number."""
    found: dict[tuple[int, int, str], Contrast] = {}
    for measure, matches in pool.matches.items():
        pairs = [pair for pair in matches if all(_finite(pool, row, measure) for row in pair)]
        if not pairs:
            continue
        ones, others = (
            np.stack([pool.samples[row, measure].draws for row in side], axis=1) for side in zip(*pairs, strict=True)
        )
        draws = ones - others
        lows, highs = statistics.intervals(draws, min(pool.samples[first, measure].clusters for first, _ in pairs))
        reach = statistics.minimum_detectable_difference(draws)
        for place, (first, second) in enumerate(pairs):
            match = matches[first, second]
            delta = pool.samples[first, measure].value - pool.samples[second, measure].value
            found[first, second, measure] = Contrast(
                delta,
                float(lows[place]),
                float(highs[place]),
                statistics.p_value(delta, match.null) if match.exact_p is None else match.exact_p,
                float(reach[place]),
                statistics.flip_rate(draws[:, place], delta),
            )
    return found


def against(found: Mapping[tuple[int, int, str], Contrast], base: int) -> dict[Key, Contrast]:
    """Every other row minus ``base``, Holm-corrected over all of these tests."""
    turned: dict[Key, Contrast] = {}
    for (first, second, measure), one in found.items():
        if second == base:
            turned[first, measure] = one
        elif first == base:
            turned[second, measure] = one.reversed()
    return correct(turned)


def correct(raw: Mapping[K, Contrast]) -> dict[K, Contrast]:
    """The same contrasts with Holm's correction over all of them."""
    p_values = statistics.holm(np.array([one.p for one in raw.values()], dtype=np.float64))
    return {key: replace(one, p=float(p)) for (key, one), p in zip(raw.items(), p_values, strict=True)}


def _finite(pool: SampleSet, row: int, measure: str) -> bool:
    sample = pool.samples.get((row, measure))
    return sample is not None and bool(np.isfinite(sample.value))
