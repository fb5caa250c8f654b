"""The fine-grained types of the adaptation benchmark: each group and each type is resampled on its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from reports.statistics.contrasts import SampleSet, compute_contrasts
from reports.statistics.estimates import Contrast, Estimate, Key, Slice
from reports.statistics.samples import MetricArray, PairedBlock, resample


@dataclass
class TypeBreakdown:
    """The numbers of all types. Resamples are dropped, since there can be hundreds of types."""

    slices: list[Slice] = field(default_factory=list)
    estimates: dict[Key, Estimate] = field(default_factory=dict)
    contrasts: dict[tuple[int, int, str], Contrast] = field(default_factory=dict)

    def add(self, block: PairedBlock, metrics: Mapping[str, MetricArray]) -> None:
        """Add each group of a block of rows, then each of the group's types, the largest first.

        Args:
            block: Rows on the same questions.
            metrics: Their scores by name of the metric.
        """
        entries = [block.entries.get(name) for name in block.ids]
        groups = np.array([entry.group if entry else "" for entry in entries])
        kinds = np.array([entry.type if entry else "" for entry in entries])
        for group in sorted(set(groups), key=lambda name: (name != "news", name)):
            in_group = groups == group
            names, counts = np.unique(kinds[in_group], return_counts=True)
            by_size = [str(name) for _, name in sorted(zip(-counts, names, strict=True))]
            for kind in [None, *by_size]:
                selected = in_group if kind is None else in_group & (kinds == kind)
                key = f"{group}/{kind if kind is not None else ''}"
                slice_ = Slice(key, str(group), kind or "", int(selected.sum()))
                if slice_ not in self.slices:
                    self.slices.append(slice_)
                self._add_slice(key, metrics, [metric.select(selected) for metric in metrics.values()])

    def _add_slice(self, key: str, names: Iterable[str], metrics: Sequence[MetricArray]) -> None:
        samples = SampleSet()
        for name, (own, nulls) in zip(names, resample(metrics, key), strict=True):
            samples.add(f"{key}/{name}", own, nulls)
        self.estimates |= samples.estimates()
        self.contrasts |= compute_contrasts(samples)
