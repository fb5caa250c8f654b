"""The page's data: every number with its test against every other row, packed as compressed JSON."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

from benchmarks import aggregate
from reports.statistics import summary
from reports.statistics.estimates import Analysis, Contrast, Estimate
from reports.tables.editing import editing_table
from reports.text import rounded, sanitize


def pack_json(data: Any) -> str:
    """Pack data for the page's script: base64 letters, which can neither end nor start an HTML element.

    The script unpacks it with the browser's DecompressionStream. Equal data give equal text.
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), mtime=0)).decode("ascii")


def unpack_json(text: str) -> Any:
    """Reverse ``pack_json``."""
    return json.loads(gzip.decompress(base64.b64decode(text, validate=True)))


def pack_scores(analysis: Analysis) -> str:
    """Pack all numbers for the page's script.

    ``values[row][measure]`` is [value, low, high, spread, rank, marks, unread, truncated, lenient] or null;
    ``tests[base][row][measure]`` is [p, low, high, difference] of row minus base, or null if they answered different
    questions.
    """
    measures = _measures(analysis)
    keys = [measure["key"] for measure in measures]
    tables = {**analysis.main, **analysis.benchmarks, **analysis.types, **analysis.editing}
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
    """Dimension, benchmark, type and metric of each measure, in the order of the tables."""
    measures = []
    adaptation = sanitize(analysis.adaptation)
    for column in summary.MAIN:
        key = column.key
        if any((number, key) in analysis.main for number in range(len(analysis.rows))):
            is_adaptation = column.group == "Adaptation"
            dimension = key if key in aggregate.DIMENSIONS else "Adaptation" if is_adaptation else "Summary"
            metric = key if key not in aggregate.DIMENSIONS else "mean"
            measures.append(_measure(analysis, key, dimension, adaptation if is_adaptation else "", "", metric))
    for name in analysis.retention:
        part = summary.canonical(name)
        measures.append(_measure(analysis, part, summary.DIMENSION_OF[part], sanitize(name), "", "headline"))
    for name in analysis.further:
        measures.append(_measure(analysis, name, summary.FURTHER, sanitize(name), "", "headline"))
    for slice_ in analysis.slices:
        kind = f"{sanitize(slice_.group)} · {sanitize(slice_.type)}" if slice_.type else sanitize(slice_.group) or "all"
        for metric in (summary.CEM, summary.F1):
            measures.append(_measure(analysis, f"{slice_.key}/{metric}", "Adaptation", adaptation, kind, metric))
    table = editing_table(analysis)
    for head in table.columns if table else ():
        measures.append(_measure(analysis, head.key, "Editing", "", head.group, head.title))
    return measures


def _measure(analysis: Analysis, key: str, dimension: str, benchmark: str, kind: str, metric: str) -> dict[str, Any]:
    sizes = {
        one.n
        for table in (analysis.main, analysis.benchmarks, analysis.types, analysis.editing)
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
    numbers = [rounded(number) for number in (one.value, one.low, one.high, one.seed_sd)]
    beside = [rounded(number) for number in (one.unread, one.truncated, one.lenient)]
    return [*numbers, one.rank, " ".join(one.marks), *beside]


def _test(one: Contrast | None) -> list[float | None] | None:
    return None if one is None else [rounded(one.p, 4), *map(rounded, (one.low, one.high, one.delta))]
