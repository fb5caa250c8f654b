"""The numbers printed in the KORE paper (arXiv 2510.19316, versions 1 and 2), and whether they are consistent.

The versions define retention differently, so they are never mixed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks import aggregate
from reports.statistics import summary
from reports.table import TextTable
from reports.text import format_number, format_signed

RESULTS = Path(__file__).parents[1] / "data" / "paper-results.csv"
ROUNDING = 0.0151
"""Largest gap that rounding explains: two printed decimals on each side, and a third in intermediate results."""
ROUNDING_HARS = 0.1
"""HARS divides by the small K.A of the untouched model, so rounding weighs more."""


@dataclass(frozen=True)
class PrintedRow:
    """One method in one version of the paper, collected from its tables.

    Args:
        version: "v1" or "v2".
        model: The paper's name, in lower case.
        method: The paper's name, in lower case.
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
    """A printed number that does not follow from the printed numbers that it is computed from."""

    row: PrintedRow
    metric: str
    printed: float
    recomputed: float


@dataclass(frozen=True)
class Audit:
    """The result of the audit."""

    values: int
    """Number of printed numbers."""
    checked: int
    """Number of those that should follow from others."""
    discrepancies: tuple[Discrepancy, ...]


@cache
def printed_rows() -> tuple[PrintedRow, ...]:
    """Read all printed numbers, in the order of the tables."""
    by_row: dict[tuple[str, str, str], tuple[dict[str, float], dict[str, str]]] = {}
    with RESULTS.open(encoding="utf-8", newline="") as file:
        for record in csv.DictReader(file):
            key = (record["paper_version"], record["model"], record["method"])
            values, tables = by_row.setdefault(key, ({}, {}))
            if record["metric"] not in values:
                values[record["metric"]] = float(record["printed_value"])
                tables[record["metric"]] = record["table"]
    return tuple(PrintedRow(*key, values, tables) for key, (values, tables) in by_row.items())


def audit() -> Audit:
    """Recompute every printed dimension, mean and HARS from its printed parts; return those that differ."""
    bases = {(row.version, row.model): row for row in printed_rows() if row.method == "vanilla"}
    discrepancies, checked = [], 0
    for row in printed_rows():
        for metric, value in _recomputed(row, bases.get((row.version, row.model))):
            if metric not in row.values:
                continue
            checked += 1
            tolerance = ROUNDING_HARS if metric == "HARS" else ROUNDING
            if abs(row.values[metric] - value) > tolerance:
                discrepancies.append(Discrepancy(row, metric, row.values[metric], value))
    return Audit(sum(len(row.values) for row in printed_rows()), checked, tuple(discrepancies))


def audit_listing() -> TextTable:
    """List what ``audit`` finds, with both numbers."""
    result = audit()
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
        for one in result.discrepancies
    )
    heads = ("Version", "Model", "Method", "Metric", "Table", "Printed", "Recomputed", "Difference")
    notes = (
        f"{result.values} printed numbers; {result.checked} of them should follow from others, {len(records)} do not.",
        "Recomputed from the numbers that the same version prints: a dimension from its benchmarks, K.A from CEM and "
        "F1, K.R, Avg and HARS by the version's own definition. Differences that rounding explains are not listed "
        f"(up to {ROUNDING:.3f}; for HARS, which divides by a small number, {ROUNDING_HARS}).",
        "Which of the two numbers is wrong, the table or its parts, arithmetic cannot say.",
    )
    return TextTable("audit-paper", "What does not follow in the KORE paper (arXiv 2510.19316)", heads, records, notes)


def _recomputed(row: PrintedRow, base: PrintedRow | None) -> Iterator[tuple[str, float]]:
    values = row.values
    has_parts = {summary.CEM, summary.F1} <= values.keys()
    adapted = aggregate.adaptation(values[summary.CEM], values[summary.F1]) if has_parts else values.get("K.A")
    for name, value in aggregate.dimension_means(values).items():
        if value is not None:
            yield name, value
    retained = _retention(row)
    if adapted is not None and has_parts:
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
    """K.R from the printed dimensions: their mean in version 1; weighted by their number of benchmarks in version 2."""
    if not aggregate.DIMENSIONS.keys() <= row.values.keys():
        return None
    weights = {name: 1 if row.version == "v1" else len(parts) for name, parts in aggregate.DIMENSIONS.items()}
    return sum(weight * row.values[name] for name, weight in weights.items()) / sum(weights.values())
