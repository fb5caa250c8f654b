"""The numbers that the KORE paper prints (arXiv 2510.19316, versions 1 and 2), and what follows from them.

The versions define retention differently, so nothing here ever mixes them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks import aggregate
from reports.model import TextTable
from reports.statistics import summary
from reports.text import format_number, format_signed

RESULTS = Path(__file__).parents[1] / "data" / "paper-results.csv"
ROUNDING = 0.0151
"""Two printed decimals on each side, and a third on what was computed on the way, explain a gap up to here."""
ROUNDING_HARS = 0.1
"""HARS divides by the small K.A of the untouched model, so rounding weighs more."""


@dataclass(frozen=True)
class PrintedRow:
    """One method in one version of the paper, gathered over its tables.

    Args:
        version: "v1" or "v2".
        model: As the paper names it, in lower case.
        method: As the paper names it, in lower case.
        values: Metric to printed value, on 0-100.
        tables: Metric to the table that prints it.
    """

    version: str
    model: str
    method: str
    values: Mapping[str, float]
    tables: Mapping[str, str]


@dataclass(frozen=True)
class Discrepancy:
    """A printed number that does not follow from the printed numbers that it is said to be made of."""

    row: PrintedRow
    metric: str
    printed: float
    recomputed: float


@dataclass(frozen=True)
class Audit:
    """What was checked, and what does not follow."""

    values: int
    """Printed numbers."""
    checked: int
    """Those among them that should follow from others."""
    found: tuple[Discrepancy, ...]


@cache
def printed() -> tuple[PrintedRow, ...]:
    """Everything printed, in the order of the tables."""
    found: dict[tuple[str, str, str], tuple[dict[str, float], dict[str, str]]] = {}
    with RESULTS.open(encoding="utf-8", newline="") as file:
        for record in csv.DictReader(file):
            key = (record["paper_version"], record["model"], record["method"])
            values, tables = found.setdefault(key, ({}, {}))
            if record["metric"] not in values:
                values[record["metric"]] = float(record["printed_value"])
                tables[record["metric"]] = record["table"]
    return tuple(PrintedRow(*key, values, tables) for key, (values, tables) in found.items())


def audit() -> Audit:
    """Recompute every printed dimension, mean and HARS from its printed parts; list what they do not give."""
    bases = {(row.version, row.model): row for row in printed() if row.method == "vanilla"}
    found, checked = [], 0
    for row in printed():
        for metric, value in _recomputed(row, bases.get((row.version, row.model))):
            if metric not in row.values:
                continue
            checked += 1
            slack = ROUNDING_HARS if metric == "HARS" else ROUNDING
            if abs(row.values[metric] - value) > slack:
                found.append(Discrepancy(row, metric, row.values[metric], value))
    return Audit(sum(len(row.values) for row in printed()), checked, tuple(found))


def audit_listing() -> TextTable:
    """What ``audit`` found, with both numbers."""
    done = audit()
    records = tuple(
        (
            one.row.version,
            one.row.model,
            one.row.method,
            one.metric,
            one.row.tables[one.metric],
            format_number(one.printed),
            format_number(one.recomputed),
            format_signed(one.printed - one.recomputed),
        )
        for one in done.found
    )
    heads = ("Version", "Model", "Method", "Metric", "Table", "Printed", "Recomputed", "Difference")
    notes = (
        f"{done.values} printed numbers; {done.checked} of them should follow from others, {len(records)} do not.",
        "Recomputed from the numbers that the same version prints: a dimension from its benchmarks, K.A from CEM and "
        "F1, K.R, Avg and HARS by the version's own definition. Differences that rounding explains are not listed "
        f"(up to {ROUNDING:.3f}; for HARS, which divides by a small number, {ROUNDING_HARS}).",
        "Which of the two numbers is wrong, the table or its parts, arithmetic cannot say.",
    )
    return TextTable("audit-paper", "What does not follow in the KORE paper (arXiv 2510.19316)", heads, records, notes)


def _recomputed(row: PrintedRow, base: PrintedRow | None) -> Iterator[tuple[str, float]]:
    values = row.values
    parts = {summary.CEM, summary.F1} <= values.keys()
    adapted = aggregate.adaptation(values[summary.CEM], values[summary.F1]) if parts else values.get("K.A")
    for name, value in aggregate.dimensions(values).items():
        if value is not None:
            yield name, value
    retained = _retention(row)
    if adapted is not None and parts:
        yield "K.A", adapted
    if retained is not None:
        yield "K.R", retained
    else:
        retained = values.get("K.R")
    if adapted is not None and retained is not None:
        yield "Avg", (adapted + retained) / 2
    if base is None or adapted is None or not {"K.R"} <= values.keys() & base.values.keys():
        return
    base_adapted = aggregate.adaptation(base.values[summary.CEM], base.values[summary.F1])
    score = aggregate.hars(adapted, values["K.R"], base_adapted, base.values["K.R"])
    if score is not None:
        yield "HARS", score


def _retention(row: PrintedRow) -> float | None:
    """K.R from the printed dimensions: their mean in version 1; weighed by their benchmarks in version 2."""
    if not aggregate.DIMENSIONS.keys() <= row.values.keys():
        return None
    weights = {name: 1 if row.version == "v1" else len(parts) for name, parts in aggregate.DIMENSIONS.items()}
    return sum(weight * row.values[name] for name, weight in weights.items()) / sum(weights.values())
