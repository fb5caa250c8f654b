"""How a benchmark's headline follows from its items, so that it can be resampled.

Every headline is a mean of ratios of sums: accuracy is one ratio (hits over questions), HallusionBench the mean of
three, MME the mean over its categories of acc and acc+, POPE's F1 the ratio 2 TP / (yes + said yes). An item carries a
metric where it is that metric's unit: the first question of a figure carries fAcc for the whole figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from reports.statistics.resampling import Array
from reports.statistics.summary import CEM, F1, canonical

Values = Mapping[str, float]
Ratio = Callable[[Values, str], tuple[float, float]]
"""An item's values and type to what it adds above and below the line."""

_SINGLE = ("score", "acc", "aAcc", "total_score", "Overall Score", "circular")
"""Metrics that stand for one item, the best first."""
_SAME = 0.02
"""How far, on 0-100, a mean may lie from the headline and still be called equal."""


def ratios(benchmark: str, items: Sequence[Values], types: Sequence[str], headline: float) -> tuple[Array, Array]:
    """What each item adds to each ratio: two (items, ratios) arrays, above and below the line.

    Args:
        benchmark: Its name.
        items: Values of each item.
        types: Type of each item's question.
        headline: The benchmark's own headline on 0-100; decides between metrics where no rule is known.
    """
    rule = _rule(canonical(benchmark), items, types, headline)
    parts = [[ratio(values, kind) for ratio in rule] for values, kind in zip(items, types, strict=True)]
    both = np.array(parts, dtype=np.float64).reshape(len(items), len(rule), 2)
    return both[:, :, 0], both[:, :, 1]


def metric_ratio(items: Sequence[Values], metric: str) -> tuple[Array, Array]:
    """The mean of one metric over the items that carry it, as ``ratios``."""
    both = np.array([_carried(metric)(values, "") for values in items], dtype=np.float64).reshape(len(items), 1, 2)
    return both[:, :, 0], both[:, :, 1]


def item_score(values: Values) -> float:
    """One item's own score in 0-1, to compare answers by; NaN where it has none."""
    if CEM in values and F1 in values:
        return (values[CEM] + values[F1]) / 2
    for name in _SINGLE:
        if name in values:
            return values[name]
    return next(iter(values.values()), math.nan)


def _rule(name: str, items: Sequence[Values], types: Sequence[str], headline: float) -> list[Ratio]:
    names = dict.fromkeys(metric for values in items for metric in values)
    if "score" in names:
        return [_weighted]
    if CEM in names and F1 in names:
        return [_carried(CEM), _carried(F1)]
    if {"is_yes", "said_yes"} <= names.keys():
        return [_f1]
    if name == "HallusionBench" and {"aAcc", "fAcc", "qAcc"} <= names.keys():
        return [_carried(metric) for metric in ("aAcc", "fAcc", "qAcc")]
    if name == "MME" and {"acc", "acc+"} <= names.keys():
        return [_carried(metric, kind) for kind in dict.fromkeys(types) for metric in ("acc", "acc+")]
    for metric in names:
        over, under = metric_ratio(items, metric)
        if under.sum() and abs(100 * over.sum() / under.sum() - headline) <= _SAME:
            return [_carried(metric)]
    return [_carried(_likeliest(names))]


def _likeliest(names: Iterable[str]) -> str:
    known = list(names)
    return next((name for name in _SINGLE if name in known), known[0] if known else "")


def _carried(metric: str, kind: str | None = None) -> Ratio:
    def ratio(values: Values, own: str) -> tuple[float, float]:
        if metric not in values or kind not in (None, own):
            return 0.0, 0.0
        return values[metric], 1.0

    return ratio


def _weighted(values: Values, kind: str) -> tuple[float, float]:
    weight = values.get("weight", 1.0)
    return weight * values.get("score", 0.0), weight


def _f1(values: Values, kind: str) -> tuple[float, float]:
    yes, said = values.get("is_yes", 0.0), values.get("said_yes", 0.0)
    return 2 * yes * said, yes + said
