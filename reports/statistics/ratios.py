"""How a benchmark's headline score is computed from its items, in a form that can be resampled.

Every headline is a mean of ratios of sums: accuracy is one ratio (hits over questions), HallusionBench the mean of
three, MME the mean over its categories of acc and acc+, POPE's F1 the ratio 2 TP / (is yes + answered yes). An item has
a metric if it is that metric's unit: the first question of a figure has fAcc for the whole figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from reports.statistics.resampling import Array
from reports.statistics.summary import CEM, F1, canonical

Values = Mapping[str, float]
Ratio = Callable[[Values, str], tuple[float, float]]
"""Maps an item's values and type to what it adds to the numerator and the denominator."""

_ITEM_METRICS = ("score", "acc", "aAcc", "total_score", "Overall Score", "circular")
"""Metrics that can score a single item, the preferred one first."""
_LENIENT = "_lenient"
"""Ends the names of metrics that read answers leniently; no headline is made of them."""
_TOLERANCE = 0.02
"""Largest distance, on 0-100, at which a mean still counts as equal to the headline."""


def headline_ratios(
    benchmark: str, items: Sequence[Values], types: Sequence[str], headline: float
) -> tuple[Array, Array]:
    """Return what each item adds to each ratio of the headline: (items, ratios) numerators and denominators.

    Args:
        benchmark: Its name.
        items: Values of each item.
        types: Type of each item's question.
        headline: The benchmark's own headline on 0-100; decides between metrics where no rule is known.
    """
    return _apply(_rule(canonical(benchmark), items, types, headline), items, types)


def metric_ratio(items: Sequence[Values], metric: str) -> tuple[Array, Array]:
    """The same as ``headline_ratios`` for the mean of one metric over the items that have it."""
    return _apply([_mean_of(metric)], items, [""] * len(items))


def _apply(rule: Sequence[Ratio], items: Sequence[Values], types: Sequence[str]) -> tuple[Array, Array]:
    parts = [[ratio(values, kind) for ratio in rule] for values, kind in zip(items, types, strict=True)]
    both = np.array(parts, dtype=np.float64).reshape(len(items), len(rule), 2)
    return both[:, :, 0], both[:, :, 1]


def item_score(values: Values) -> float:
    """Return one item's score in 0-1, to compare answers by; NaN if it has none."""
    if CEM in values and F1 in values:
        return (values[CEM] + values[F1]) / 2
    for name in _ITEM_METRICS:
        if name in values:
            return values[name]
    return next(iter(values.values()), math.nan)


def _rule(name: str, items: Sequence[Values], types: Sequence[str], headline: float) -> list[Ratio]:
    names = dict.fromkeys(metric for values in items for metric in values if not metric.endswith(_LENIENT))
    if "score" in names:
        return [_weighted_mean]
    if CEM in names and F1 in names:
        return [_mean_of(CEM), _mean_of(F1)]
    if {"is_yes", "said_yes"} <= names.keys():
        return [_f1_of_yes]
    if name == "HallusionBench" and {"aAcc", "fAcc", "qAcc"} <= names.keys():
        return [_mean_of(metric) for metric in ("aAcc", "fAcc", "qAcc")]
    if name == "MME" and {"acc", "acc+"} <= names.keys():
        return [_mean_of(metric, kind) for kind in dict.fromkeys(types) for metric in ("acc", "acc+")]
    for metric in names:
        numerators, denominators = metric_ratio(items, metric)
        if denominators.sum() and abs(100 * numerators.sum() / denominators.sum() - headline) <= _TOLERANCE:
            return [_mean_of(metric)]
    return [_mean_of(next((metric for metric in _ITEM_METRICS if metric in names), next(iter(names), "")))]


def _mean_of(metric: str, kind: str | None = None) -> Ratio:
    def ratio(values: Values, item_kind: str) -> tuple[float, float]:
        if metric not in values or kind not in (None, item_kind):
            return 0.0, 0.0
        return values[metric], 1.0

    return ratio


def _weighted_mean(values: Values, kind: str) -> tuple[float, float]:
    weight = values.get("weight", 1.0)
    return weight * values.get("score", 0.0), weight


def _f1_of_yes(values: Values, kind: str) -> tuple[float, float]:
    yes, answered_yes = values.get("is_yes", 0.0), values.get("said_yes", 0.0)
    return 2 * yes * answered_yes, yes + answered_yes
