"""The tables of a report: main, benchmarks, types, pairs of methods, and every number as one long table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from reports.statistics import resampling, summary
from reports.statistics.analysis import PAIRED
from reports.statistics.estimates import Analysis, Estimate, Key
from reports.table import Column, Table, TableRow, TextTable
from reports.tables.editing import KEY as EDITING_KEY
from reports.tables.editing import editing_table
from reports.tables.matched import matched_table
from reports.tables.notes import table_notes
from reports.tables.parameters import with_parameters
from reports.tables.reading_notes import pair_notes
from reports.tables.stages import stage_tables
from reports.tables.sweep_scores import sweep_tables
from reports.text import format_p, format_signed, sanitize

LONG_COLUMNS = (
    "model", "method", "variant", "label", "seed", "table", "metric",
    "value", "n", "low", "high", "delta", "p", "marks", "unread", "truncated", "lenient",
)  # fmt: skip
PAIR_HEADS = ("Measure", "Ahead", "Behind", "Lead", "95 % interval", "p", "Order reversed")
PAIR_NOTES = (
    "Every pair of ranked methods of one model on the same questions. “Order reversed”: how often drawing the "
    "questions anew would put the second method first.",
    "p: paired randomisation test, Holm-corrected over this listing.",
)


def make_tables(analysis: Analysis) -> tuple[Table, ...]:
    """Make the main table and those of benchmarks, types, editing, stages and sweeps for which the run has data."""
    tables = [main_table(analysis)]
    if analysis.retention or analysis.further:
        tables.append(benchmark_table(analysis))
    if analysis.slices:
        tables.append(type_table(analysis))
    tables += filter(None, [editing_table(analysis), *stage_tables(analysis), matched_table(analysis)])
    tables += sweep_tables(analysis)
    return tuple(tables)


def main_table(analysis: Analysis) -> Table:
    """One line a method: adaptation, the seven dimensions, the summaries of both versions of the paper, its size."""
    columns = tuple(Column(measure.key, measure.key, measure.group, measure.help) for measure in summary.MAIN)
    further = {key: one for key, one in analysis.benchmarks.items() if key[1] in analysis.further}
    columns += further_columns(analysis)
    notes = table_notes(analysis, {**analysis.main, **further}, "main")
    lines = _method_lines(analysis, {**analysis.main, **further})
    return with_parameters(Table("main", "Adaptation and retention", "Method", columns, lines, notes), analysis)


def benchmark_table(analysis: Analysis) -> Table:
    """One line a method, one column for each retention benchmark of the run, and for each further one."""
    parts = [(summary.canonical(name), name) for name in analysis.retention]
    columns = tuple(
        Column(part, sanitize(name), summary.DIMENSION_OF[part], f"{name}, headline score") for part, name in parts
    )
    columns += further_columns(analysis)
    lines = _method_lines(analysis, analysis.benchmarks)
    notes = table_notes(analysis, analysis.benchmarks, "benchmarks")
    return Table("benchmarks", "Retention by benchmark", "Method", columns, lines, notes)


def further_columns(analysis: Analysis) -> tuple[Column, ...]:
    """The columns of benchmarks beyond EVOKE and the twelve; no summary contains them."""
    return tuple(
        Column(name, sanitize(name), summary.FURTHER, f"{sanitize(name)}, headline score{_measures(analysis, name)}")
        for name in analysis.further
    )


def _measures(analysis: Analysis, name: str) -> str:
    dimension = sanitize(analysis.run.further[name])
    return "" if dimension == summary.FURTHER else f" ({dimension})"


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
    notes = table_notes(analysis, analysis.types, "types")
    return Table("types", "Adaptation by fine-grained type", "Type", columns, tuple(lines), notes)


def _method_lines(analysis: Analysis, estimates: Mapping[Key, Estimate]) -> tuple[TableRow, ...]:
    lines = []
    for number, row in enumerate(analysis.rows):
        cells = {measure: estimate for (owner, measure), estimate in estimates.items() if owner == number}
        state = "baseline" if row.is_baseline else ", ".join(sanitize(mark) for mark in row.marks)
        lines.append(TableRow(row.key, sanitize(row.label), cells, state))
    return tuple(lines)


def pairs_listing(analysis: Analysis) -> TextTable | None:
    """List all pairs of ranked methods, the largest leads first; None if there are not two ranked rows."""
    records = []
    for pair in sorted(analysis.pairs, key=lambda pair: (PAIRED.index(pair.measure), -abs(pair.contrast.delta))):
        ahead, behind, lead = pair.first, pair.second, pair.contrast
        if lead.delta < 0:
            ahead, behind, lead = behind, ahead, lead.reversed()
        records.append(
            (
                pair.measure,
                sanitize(analysis.rows[ahead].label),
                sanitize(analysis.rows[behind].label),
                format_signed(lead.delta),
                f"{format_signed(lead.low)} to {format_signed(lead.high)}",
                format_p(lead.p) + ("*" if lead.p < resampling.ALPHA else ""),
                "under 1 %" if 100 * lead.flip < 1 else f"{100 * lead.flip:.0f} %",  # all that 2,000 resamples can show
            )
        )
    notes = (*PAIR_NOTES, *pair_notes(analysis))
    return TextTable("pairs", "Method against method", PAIR_HEADS, tuple(records), notes) if records else None


def long_table(analysis: Analysis) -> pd.DataFrame:
    """Return one record for each number, with ``LONG_COLUMNS``.

    ``seed`` is "mean" for means over seeds; only they have intervals, p values and shares of unread answers.
    """
    named = {
        "main": analysis.main,
        "benchmarks": analysis.benchmarks,
        "types": analysis.types,
        EDITING_KEY: analysis.editing,
    }
    records = [record for name, estimates in named.items() for record in _long_records(analysis, name, estimates)]
    return pd.DataFrame.from_records(records, columns=list(LONG_COLUMNS))


def _long_records(analysis: Analysis, table: str, estimates: Mapping[Key, Estimate]) -> Iterator[tuple[Any, ...]]:
    for (number, metric), one in estimates.items():
        row = analysis.rows[number]
        cell = row.first
        names = (sanitize(cell.model), sanitize(cell.method), sanitize(cell.variant), sanitize(row.label))
        marks = " ".join(dict.fromkeys([*row.marks, *one.marks]))
        numbers = (one.value, one.n, one.low, one.high, one.delta, one.p)
        yield (*names, "mean", table, metric, *numbers, marks, one.unread, one.truncated, one.lenient)
        if len(one.seeds) == len(row.usable) > 1:
            missing = [float("nan")] * 4
            for seeded, value in zip(row.usable, one.seeds, strict=True):
                yield (*names, str(seeded.seed), table, metric, value, one.n, *missing, marks, *missing[:3])
