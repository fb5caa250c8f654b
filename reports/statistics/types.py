"""The fine-grained types of the adaptation benchmark and its kinds of answers: each is resampled on its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reports.statistics.contrasts import SampleSet, compute_contrasts
from reports.statistics.estimates import Contrast, Estimate, Key, Slice
from reports.statistics.samples import MetricArray, PairedBlock, resample

ANSWERS = "by answer"
"""Heads the two slices by kind of answer."""
NUMBER, WORDS = "the answer is a number", "the answer is words"


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
                self._add_slice(f"{group}/{kind or ''}", str(group), kind or "", metrics, selected)
        answers = np.array([answer_kind(entry.reference) if entry else "" for entry in entries])
        if {NUMBER, WORDS} <= set(answers):
            for kind in (NUMBER, WORDS):
                self._add_slice(answer_key(kind), ANSWERS, kind, metrics, answers == kind)

    def _add_slice(
        self, key: str, group: str, kind: str, metrics: Mapping[str, MetricArray], selected: NDArray[np.bool_]
    ) -> None:
        slice_ = Slice(key, group, kind, int(selected.sum()))
        if slice_ not in self.slices:
            self.slices.append(slice_)
        samples, chosen = SampleSet(), [metric.select(selected) for metric in metrics.values()]
        for name, (own, nulls) in zip(metrics, resample(chosen, key), strict=True):
            samples.add(f"{key}/{name}", own, nulls)
        self.estimates |= samples.estimates()
        self.contrasts |= compute_contrasts(samples)


def answer_kind(reference: str) -> str:
    """Whether an answer is a number, such as "1975" or "3.0 million", or words.

    Source: "From Style to Facts" (arXiv 2503.05919) finds numbers harder to learn than names and categories.
    """
    return NUMBER if any(character.isdecimal() for character in reference) else WORDS


def answer_key(kind: str) -> str:
    """The key of a slice by kind of answer; those of types are "group/type"."""
    return f"answer:{'number' if kind == NUMBER else 'words'}"
