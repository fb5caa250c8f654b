"""The same numbers as a long table, one record each, for anybody's own analysis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from reports.statistics.estimates import Analysis, Estimate, Key
from reports.text import sanitize

COLUMNS = (
    "model", "method", "variant", "label", "seed", "table", "metric",
    "value", "n", "low", "high", "delta", "p", "marks",
)  # fmt: skip


def frame(analysis: Analysis) -> pd.DataFrame:
    """Columns ``COLUMNS``; ``seed`` is "mean" for means over seeds, which alone have intervals and p values."""
    records: list[tuple[Any, ...]] = []
    for table, estimates in (
        ("main", analysis.main),
        ("benchmarks", analysis.benchmarks),
        ("types", analysis.types),
    ):
        records.extend(_records(analysis, table, estimates))
    return pd.DataFrame.from_records(records, columns=list(COLUMNS))


def _records(analysis: Analysis, table: str, estimates: Mapping[Key, Estimate]) -> Iterator[tuple[Any, ...]]:
    for (number, metric), one in estimates.items():
        row = analysis.rows[number]
        cell = row.first
        who = (sanitize(cell.model), sanitize(cell.method), sanitize(cell.variant), sanitize(row.label))
        marks = " ".join(dict.fromkeys([*row.marks, *one.marks]))
        yield (*who, "mean", table, metric, one.value, one.n, one.low, one.high, one.delta, one.p, marks)
        if len(one.seeds) == len(row.usable) > 1:
            for seeded, value in zip(row.usable, one.seeds, strict=True):
                blank = float("nan")
                yield (*who, str(seeded.seed), table, metric, value, one.n, blank, blank, blank, blank, marks)
