"""Every number of the report once, with its test against every other row: what the page sorts, filters and compares."""

from __future__ import annotations

import math
from typing import Any

from benchmarks import aggregate
from reports.html.packing import pack_json
from reports.statistics import summary
from reports.statistics.estimates import Analysis, Contrast, Estimate
from reports.text import sanitize

DIMENSION_OF = {part: name for name, parts in aggregate.DIMENSIONS.items() for part in parts}


def scores(analysis: Analysis) -> str:
    """Packed data for the page's script.

    ``values[row][measure]`` is [value, low, high, spread, rank, marks] or null; ``tests[base][row][measure]`` is
    [p, low, high, difference] of row minus base, or null where they answered other questions.
    """
    measures = _measures(analysis)
    keys = [one["key"] for one in measures]
    tables = {**analysis.main, **analysis.benchmarks, **analysis.types}
    count = range(len(analysis.rows))
    return pack_json(
        {
            "rows": [_row(analysis, number) for number in count],
            "measures": measures,
            "values": [[_value(tables.get((row, key))) for key in keys] for row in count],
            "tests": [
                [[_test(analysis.against[base].get((row, key))) for key in keys] for row in count] for base in count
            ],
        }
    )


def _row(analysis: Analysis, number: int) -> dict[str, Any]:
    row = analysis.rows[number]
    return {
        "key": row.key,
        "label": sanitize(row.label),
        "model": sanitize(row.first.model),
        "method": sanitize(row.first.method),
        "variant": sanitize(row.first.variant),
        "ranked": row.ranked or row.is_baseline,
        "state": "baseline" if row.is_baseline else ", ".join(sanitize(mark) for mark in row.marks),
    }


def _measures(analysis: Analysis) -> list[dict[str, Any]]:
    """What is measured, in the order of the tables: dimension, benchmark, type and metric of each number."""
    found = []
    adaptation = sanitize(analysis.adaptation)
    for one in summary.MAIN:
        if any((number, one.key) in analysis.main for number in range(len(analysis.rows))):
            learnt = one.group == "Adaptation"
            dimension = one.key if one.key in aggregate.DIMENSIONS else "Adaptation" if learnt else "Summary"
            metric = one.key if one.key not in aggregate.DIMENSIONS else "mean"
            found.append(_measure(analysis, one.key, dimension, adaptation if learnt else "", "", metric))
    for name in analysis.retention:
        part = summary.canonical(name)
        found.append(_measure(analysis, part, DIMENSION_OF[part], sanitize(name), "", "headline"))
    for slice_ in analysis.slices:
        kind = f"{sanitize(slice_.group)} · {sanitize(slice_.type)}" if slice_.type else sanitize(slice_.group) or "all"
        for metric in (summary.CEM, summary.F1):
            found.append(_measure(analysis, f"{slice_.key}/{metric}", "Adaptation", adaptation, kind, metric))
    return found


def _measure(analysis: Analysis, key: str, dimension: str, benchmark: str, kind: str, metric: str) -> dict[str, Any]:
    sizes = {
        one.n
        for table in (analysis.main, analysis.benchmarks, analysis.types)
        for number in range(len(analysis.rows))
        if (one := table.get((number, key))) is not None
    }
    return {
        "key": key,
        "dimension": dimension,
        "benchmark": benchmark,
        "type": kind,
        "metric": metric,
        "n": sizes.pop() if len(sizes) == 1 else None,
    }


def _value(one: Estimate | None) -> list[Any] | None:
    if one is None:
        return None
    numbers = [_rounded(number) for number in (one.value, one.low, one.high, one.spread)]
    return [*numbers, one.rank, " ".join(one.marks)]


def _test(one: Contrast | None) -> list[float | None] | None:
    return None if one is None else [_rounded(one.p, 4), *map(_rounded, (one.low, one.high, one.delta))]


def _rounded(value: float, digits: int = 2) -> float | None:
    return round(value, digits) + 0.0 if math.isfinite(value) else None
