"""What stands beside each number: how many answers could not be read or were cut, and the number read leniently.

An answer that the rule cannot read counts as wrong (in POPE as No), and so does one that was cut before its letter. A
model that is trained on short answers loses fewer of them, which looks like ability and is none.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from reports.marks import TRUNCATED, UNREAD
from reports.record import BenchmarkResult, ItemResult, Run
from reports.statistics import summary
from reports.statistics.estimates import Estimate, Key
from reports.statistics.rows import ReportRow
from reports.statistics.samples import HEADLINE, metric_value
from reports.statistics.types import answer_key, answer_kind

MARKED_ABOVE = 5.0
"""Share of such answers (0-100) above which a number is marked."""
APART = 2.0
"""Points by which two rows' shares may differ before a comparison of the two says so."""
LENIENT = "headline_lenient"


@dataclass(frozen=True)
class Reading:
    """Shares of answers (0-100) that were unread and truncated, and the number with its answers read leniently.

    ``lenient`` is the official number where there is no lenient reading; ``has_lenient`` is then False.
    """

    unread: float
    truncated: float
    lenient: float = math.nan
    has_lenient: bool = False


def share_items(items: Sequence[ItemResult]) -> Reading:
    """The shares of some answers, at least one."""
    return Reading(
        100 * fmean(item.status == "unparsed" for item in items), 100 * fmean(item.truncated for item in items)
    )


def add_readings(table: Mapping[Key, Estimate], rows: Sequence[ReportRow], adaptation: str) -> dict[Key, Estimate]:
    """Add shares, marks and lenient numbers to the numbers of benchmarks and to the summaries made of them."""
    parts = [_parts(row, adaptation) for row in rows]
    found = {key: _combine(key[1], parts[key[0]]) for key in table}
    return {key: _with_reading(one, found[key]) for key, one in table.items()}


def add_slice_readings(
    table: Mapping[Key, Estimate], rows: Sequence[ReportRow], adaptation: str, run: Run
) -> dict[Key, Estimate]:
    """Add shares and marks to the numbers of fine-grained types and kinds of answers, whose keys are "slice/metric"."""
    slices = {
        entry.id: (f"{entry.group}/", f"{entry.group}/{entry.type}", answer_key(answer_kind(entry.reference)))
        for entry in run.questions
        if entry.benchmark == adaptation
    }
    found: dict[tuple[int, str], Reading] = {}
    for number, row in enumerate(rows):
        members: dict[str, list[ItemResult]] = defaultdict(list)
        for item in (item for result in row.results(adaptation) for item in result.items):
            for key in dict.fromkeys(slices.get(item.question_id, ("/",))):
                members[key].append(item)
        found |= {(number, key): share_items(items) for key, items in members.items()}
    return {
        (number, key): _with_reading(one, found.get((number, key.rpartition("/")[0])))
        for (number, key), one in table.items()
    }


def differing(one: Estimate, other: Estimate) -> dict[str, float]:
    """The shares by which two numbers differ by more than ``APART`` points: name -> first minus second."""
    gaps = {UNREAD: one.unread - other.unread, TRUNCATED: one.truncated - other.truncated}
    return {name: gap for name, gap in gaps.items() if abs(gap) > APART}


def _parts(row: ReportRow, adaptation: str) -> dict[str, Reading]:
    """The reading of each part of a summary, over all seeds of a row."""
    readings = {}
    for name in dict.fromkeys(name for cell in row.cells for name in cell.scores):
        results = row.results(name)
        items = [item for result in results for item in result.items]
        for part in (summary.CEM, summary.F1) if name == adaptation else (summary.canonical(name),):
            if items:
                readings[part] = replace(
                    share_items(items), **_lenient(results, part if name == adaptation else HEADLINE)
                )
    return readings


def _lenient(results: Sequence[BenchmarkResult], metric: str) -> dict[str, Any]:
    has_lenient = all(LENIENT in result.metrics for result in results)
    name = LENIENT if has_lenient else metric
    return {"lenient": fmean(metric_value(result, name) for result in results), "has_lenient": has_lenient}


def _combine(measure: str, parts: Mapping[str, Reading]) -> Reading | None:
    """The reading of a summary: that of its parts, with the weights by which they enter it."""
    weights = summary.coefficients().get(summary.AVG2 if measure == summary.HARS else measure, {measure: 1.0})
    if not weights.keys() <= parts.keys():
        return None
    unread, truncated = (
        sum(weight * getattr(parts[part], name) for part, weight in weights.items()) / sum(weights.values())
        for name in (UNREAD, TRUNCATED)
    )
    has_lenient = measure != summary.HARS and any(parts[part].has_lenient for part in weights)
    lenient = {part: parts[part].lenient for part in weights}
    value = (summary.summarize(lenient) | lenient).get(measure, math.nan) if has_lenient else math.nan
    return Reading(unread, truncated, value, has_lenient)


def _with_reading(one: Estimate, reading: Reading | None) -> Estimate:
    if reading is None:
        return one
    marks = [name for name in (UNREAD, TRUNCATED) if getattr(reading, name) > MARKED_ABOVE]
    return replace(
        one,
        unread=reading.unread,
        truncated=reading.truncated,
        lenient=reading.lenient if reading.has_lenient else math.nan,
        marks=(*one.marks, *marks),
    )
