"""How many parameters each row trains: a column of the main table, and a mark on rows that differ in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from reports.marks import OTHER_SIZE, symbol
from reports.statistics.estimates import Analysis, Estimate
from reports.statistics.rows import ReportRow
from reports.table import Column, Table
from reports.text import join_words, sanitize

COLUMN = Column("parameters", "Parameters (M)", "Size", "trained parameters, in millions")
TOLERANCE = 0.05
"""Share by which a row may differ from the reference without a mark."""


def with_parameters(table: Table, analysis: Analysis) -> Table:
    """The table with a last column of trained parameters, if a row of the run trains any."""
    counts = {row.key: count for row in analysis.rows if (count := _trained(row))}
    if not counts:
        return table
    marked = {row.key for row, _, _ in _other_sizes(analysis)}
    cells = {
        key: Estimate(count / 1e6, marks=(OTHER_SIZE,) if key in marked else ())  # n is 0: no question is behind it
        for key, count in counts.items()
    }
    lines = tuple(
        dataclasses.replace(line, cells={**line.cells, COLUMN.key: cells[line.key]}) if line.key in cells else line
        for line in table.lines
    )
    return dataclasses.replace(table, columns=(*table.columns, COLUMN), lines=lines)


def parameter_notes(analysis: Analysis) -> list[str]:
    """Which rows train more or fewer parameters than the reference."""
    by_reference: dict[str, list[str]] = {}
    for row, reference, ratio in _other_sizes(analysis):
        by_reference.setdefault(sanitize(reference.label), []).append(f"{sanitize(row.label)} {ratio:.2f} times")
    percent = f"{100 * TOLERANCE:.0f} %"
    return [
        f"{symbol(OTHER_SIZE)} {OTHER_SIZE}: trains over {percent} more or fewer parameters than {reference}: "
        f"{join_words(rows)}."
        for reference, rows in by_reference.items()
    ]


def _other_sizes(analysis: Analysis) -> Iterator[tuple[ReportRow, ReportRow, float]]:
    """Rows that differ by more than ``TOLERANCE``, with the reference of their model and the ratio to it."""
    for row in analysis.rows:
        reference = _reference(analysis, row.first.model)
        if reference is None or not _trained(row):
            continue
        own, other = _trained(row), _trained(reference)
        if abs(own - other) > TOLERANCE * other:
            yield row, reference, own / other


def _reference(analysis: Analysis, model: str) -> ReportRow | None:
    """The row that the run names as the reference, else the first that is trained; None if there is none."""
    trained = [row for row in analysis.rows if row.first.model == model and _trained(row)]
    return next((row for row in trained if row.first.size_reference), next(iter(trained), None))


def _trained(row: ReportRow) -> int:
    return max(cell.cost.trainable_parameters for cell in row.cells)
