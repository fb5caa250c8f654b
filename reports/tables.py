"""The tables of a report, in one model that every format is made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reports import summary
from reports.estimates import Analysis, Estimate
from reports.notes import notes_for
from reports.text import plain


@dataclass(frozen=True)
class Column:
    """One column: unique key, heading, the group it belongs to and what it means."""

    key: str
    title: str
    group: str = ""
    help: str = ""


@dataclass(frozen=True)
class Line:
    """One line. ``cells`` maps a column's key to a number; a column without one is missing here.

    ``state`` says in words what keeps the line from being ranked, or that it is the baseline.
    """

    key: str
    label: str
    cells: Mapping[str, Estimate]
    state: str = ""
    group: str = ""


@dataclass(frozen=True)
class Table:
    """A table ready to be written. All text in it is already harmless in length and direction, not yet escaped."""

    key: str
    title: str
    heading: str
    """What the lines are: "method" or "type"."""
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    def n(self, column: Column) -> int | None:
        """The number of questions behind a column, if it is the same in all lines."""
        found = {line.cells[column.key].n for line in self.lines if column.key in line.cells}
        return found.pop() if len(found) == 1 else None


def tables(analysis: Analysis) -> tuple[Table, ...]:
    """Summary, benchmarks and fine-grained types; a table with nothing in it is left out, but for the first."""
    made = [main_table(analysis)]
    if analysis.retention:
        made.append(benchmark_table(analysis))
    if analysis.slices:
        made.append(type_table(analysis))
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
    columns = tuple(Column(part, plain(name), groups[part], f"{name}, headline score") for part, name in parts)
    lines = _method_lines(analysis, analysis.benchmarks)
    notes = notes_for(analysis, analysis.benchmarks, "benchmarks")
    return Table("benchmarks", "Retention by benchmark", "Method", columns, lines, notes)


def type_table(analysis: Analysis) -> Table:
    """One line a fine-grained type, two columns (CEM, F1) a method: it stays readable for hundreds of types."""
    columns = tuple(
        Column(f"{number}/{metric}", metric, plain(row.label), f"{metric} of {plain(row.label)}")
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
        group = plain(part.group).capitalize() or "All"
        label = plain(part.type) if part.type else f"{group}, all types"
        lines.append(Line(f"type-{index}", f"{label} (n = {part.n})", cells, "" if part.type else "group", group))
    notes = notes_for(analysis, analysis.types, "types")
    return Table("types", "Adaptation by fine-grained type", "Type", columns, tuple(lines), notes)


def _dimensions() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for measure in summary.MAIN:
        for part in summary.coefficients().get(measure.key, {}):
            if measure.group.startswith("Retention"):
                found.setdefault(measure.key, []).append(part)
    return found


def _method_lines(analysis: Analysis, estimates: Mapping[tuple[int, str], Estimate]) -> tuple[Line, ...]:
    lines = []
    for number, row in enumerate(analysis.rows):
        cells = {measure: estimate for (owner, measure), estimate in estimates.items() if owner == number}
        state = "baseline" if row.is_baseline else ", ".join(plain(mark) for mark in row.marks)
        lines.append(Line(row.key, plain(row.label), cells, state))
    return tuple(lines)
