"""Every benchmark's score at each value of a swept setting: one line a method, as KORE's tables 7 and 16."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from reports.statistics import summary
from reports.statistics.estimates import Analysis, Estimate
from reports.table import Column, Table, TableRow
from reports.tables.matched import SweepCurve, curves_through
from reports.tables.notes import table_notes
from reports.text import sanitize


def sweep_tables(analysis: Analysis) -> list[Table]:
    """Make one table for each swept setting: its values are columns, grouped by benchmark."""
    return [_table(analysis, name, curves) for name, curves in swept_settings(benchmark_curves(analysis)).items()]


def benchmark_curves(analysis: Analysis) -> tuple[SweepCurve, ...]:
    """Return the curves through the rows that have the score of some benchmark."""
    return curves_through(analysis, {number for number, _ in analysis.benchmarks})


def swept_settings(curves: Sequence[SweepCurve]) -> dict[str, tuple[SweepCurve, ...]]:
    """Return the curves of each swept setting."""
    names = dict.fromkeys(curve.setting for curve in curves)
    return {name: tuple(curve for curve in curves if curve.setting == name) for name in names}


def benchmark_names(analysis: Analysis, curves: Sequence[SweepCurve]) -> dict[str, str]:
    """Return the benchmarks for which the curves have a score: key in ``Analysis.benchmarks`` to name in the run."""
    rows = {row for curve in curves for row in curve.rows}
    names = {summary.canonical(name): name for name in analysis.retention}
    scored = dict.fromkeys(key for number, key in analysis.benchmarks if number in rows)
    return {key: sanitize(names.get(key, key)) for key in scored}


def bases(analysis: Analysis, curves: Sequence[SweepCurve]) -> list[int]:
    """Return the row numbers of the untouched bases of the curves' models."""
    models = {curve.model for curve in curves}
    return [number for number, row in enumerate(analysis.rows) if row.is_baseline and row.first.model in models]


def _table(analysis: Analysis, setting: str, curves: Sequence[SweepCurve]) -> Table:
    names, values = benchmark_names(analysis, curves), sorted({value for curve in curves for value in curve.values})
    columns = tuple(
        Column(f"{key}/{value:g}", f"{value:g}", name, f"{name} at {sanitize(setting)} {value:g}")
        for key, name in names.items()
        for value in values
    )
    lines = [
        _line(analysis, f"base-{number}", analysis.rows[number].label, dict.fromkeys(values, number), names)
        for number in bases(analysis, curves)
    ]
    for place, curve in enumerate(curves):
        rows = dict(zip(curve.values, curve.rows, strict=True))
        lines.append(_line(analysis, f"curve-{place}", curve.label, rows, names))
    used = {key: one for key, one in analysis.benchmarks.items() if key[1] in names}
    title = f"Scores by benchmark over {sanitize(setting, 40)}"
    notes = table_notes(analysis, used, "benchmarks")
    return Table(f"benchmarks-over-{identifier(setting)}", title, "Method", columns, tuple(lines), notes)


def _line(analysis: Analysis, key: str, label: str, rows: Mapping[float, int], benchmarks: Iterable[str]) -> TableRow:
    """A line from the row at each value; the untouched base is the same row at all of them."""
    cells: dict[str, Estimate] = {}
    for value, row in rows.items():
        for name in benchmarks:
            one = analysis.benchmarks.get((row, name))
            if one is not None and math.isfinite(one.value):
                cells[f"{name}/{value:g}"] = one
    marks = dict.fromkeys(sanitize(mark) for row in rows.values() for mark in analysis.rows[row].marks)
    is_base = any(analysis.rows[row].is_baseline for row in rows.values())
    return TableRow(key, sanitize(label), cells, "baseline" if is_base else ", ".join(marks))


def identifier(text: str) -> str:
    """Return a text as a part of a file's name."""
    return "".join(sign if sign.isalnum() else "-" for sign in text.lower())[:40]
