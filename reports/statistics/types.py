"""The fine-grained types of the adaptation benchmark: each group and each type resampled on its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from reports.statistics import resampling as statistics
from reports.statistics.contrasts import SampleSet, contrasts
from reports.statistics.estimates import Contrast, Estimate, Key, Slice
from reports.statistics.samples import BootstrapSample, MetricArray, PairedBlock, samples


@dataclass
class TypeBreakdown:
    """What was found. Hundreds of types are possible, so nothing is kept of a type but its numbers."""

    slices: list[Slice] = field(default_factory=list)
    estimates: dict[Key, Estimate] = field(default_factory=dict)
    contrasts: dict[tuple[int, int, str], Contrast] = field(default_factory=dict)


def estimate(sample: BootstrapSample) -> Estimate:
    """A number with its interval; nothing yet is compared."""
    low, high = sample.bounds or statistics.interval(sample.draws, sample.clusters)
    return Estimate(
        value=sample.value,
        low=max(0.0, low) if math.isfinite(low) else low,
        high=min(100.0, high) if math.isfinite(high) else high,
        n=sample.n,
        seeds=sample.seeds,
    )


def sample_types(
    block: PairedBlock, metrics: Sequence[str], scores: Sequence[MetricArray], types: TypeBreakdown
) -> None:
    """Each group, then each of its types, the largest first.

    Args:
        block: Rows on the same questions.
        metrics: Names of the metrics.
        scores: One for each metric.
        types: Takes what is found.
    """
    of = [block.entries.get(one) for one in block.ids]
    groups = np.array([entry.group if entry else "" for entry in of])
    kinds = np.array([entry.type if entry else "" for entry in of])
    for group in sorted(set(groups), key=lambda one: (one != "news", one)):
        inside = groups == group
        names, counts = np.unique(kinds[inside], return_counts=True)
        ordered = [str(name) for _, name in sorted(zip(-counts, names, strict=True))]
        for kind in [None, *ordered]:
            keep = inside if kind is None else inside & (kinds == kind)
            key = f"{group}/{kind if kind is not None else ''}"
            part = Slice(key, str(group), kind or "", int(keep.sum()))
            if part not in types.slices:
                types.slices.append(part)
            pool = SampleSet()
            chosen = samples([one.only(keep) for one in scores], key)
            for metric, (own, matches) in zip(metrics, chosen, strict=True):
                pool.add(f"{key}/{metric}", own, matches)
            types.estimates |= {place: estimate(sample) for place, sample in pool.samples.items()}
            types.contrasts |= contrasts(pool)
