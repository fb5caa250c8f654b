"""The tables of a report, in one model that every format is made from."""

from __future__ import annotations

from collections.abc import Mapping

from reports.model import Column as Column
from reports.model import Table as Table
from reports.model import TableRow as TableRow
from reports.statistics import summary
from reports.statistics.estimates import Analysis, Estimate
from reports.tables.matched import matched_table
from reports.tables.notes import notes_for
from reports.tables.stages import stage_tables
from reports.text import sanitize


def tables(analysis: Analysis) -> tuple[Table, ...]:
    """Summary, benchmarks, types, injection stages; a table with nothing in it is left out, but for the first."""
    made = [main_table(analysis)]
    if analysis.retention:
        made.append(benchmark_table(analysis))
    if analysis.slices:
        made.append(type_table(analysis))
    made += [*stage_tables(analysis), *filter(None, [matched_table(analysis)])]
    return tuple(made)


def main_table(analysis: Analysis) -> Table:
    """One line a method: adaptation, the seven dimensions, and the summaries of both versions of the paper."""
    columns = tuple(Column(one.key, one.key, one.group, one.help) for one in summary.MAIN)
    lines = _method_lines(analysis, analysis.main)
    return Table(
        "main", "Adaptation and retention", "Method", columns, lines, notes_for(analysis, analysis.main, "main")
    )


def benchmark_table(analysis: Analysis) -> Table:
    """One line a method, one column for each retention benchmark of the run."""
    groups = {part: name for name, parts in _dimensions().items() for part in parts}
    parts = [(summary.canonical(name), name) for name in analysis.retention]
    columns = tuple(Column(part, sanitize(name), groups[part], f"{name}, headline score") for part, name in parts)
    lines = _method_lines(analysis, analysis.benchmarks)
    notes = notes_for(analysis, analysis.benchmarks, "benchmarks")
    return Table("benchmarks", "Retention by benchmark", "Method", columns, lines, notes)


def type_table(analysis: Analysis) -> Table:
    """One line a fine-grained type, two columns (CEM, F1) a method: it stays readable for hundreds of types."""
    columns = tuple(
        Column(f"{number}/{metric}", metric, sanitize(row.label), f"{metric} of {sanitize(row.label)}")
        for number, row in enumerate(analysis.rows)
        for metric in (summary.CEM, summary.F1)
        if any((number, f"{part.key}/{metric}") in analysis.types for part in analysis.slices)
    )
    lines = []
    for index, part in enumerate(analysis.slices):
        cells = {}
        for column in columns:
            number, metric = column.key.split("/")
            estimate = analysis.types.get((int(number), f"{part.key}/{metric}"))
            if estimate is not None:
                cells[column.key] = estimate
        group = sanitize(part.group).capitalize() or "All"
        label = sanitize(part.type) if part.type else f"{group}, all types"
        lines.append(TableRow(f"type-{index}", f"{label} (n = {part.n})", cells, "" if part.type else "group", group))
    notes = notes_for(analysis, analysis.types, "types")
    return Table("types", "Adaptation by fine-grained type", "Type", columns, tuple(lines), notes)


def _dimensions() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for measure in summary.MAIN:
        for part in summary.coefficients().get(measure.key, {}):
            if measure.group.startswith("Retention"):
                found.setdefault(measure.key, []).append(part)
    return found


def _method_lines(analysis: Analysis, estimates: Mapping[tuple[int, str], Estimate]) -> tuple[TableRow, ...]:
    lines = []
    for number, row in enumerate(analysis.rows):
        cells = {measure: estimate for (owner, measure), estimate in estimates.items() if owner == number}
        state = "baseline" if row.is_baseline else ", ".join(sanitize(mark) for mark in row.marks)
        lines.append(TableRow(row.key, sanitize(row.label), cells, state))
    return tuple(lines)
