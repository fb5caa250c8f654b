"""Compare our numbers with the paper's, one version at a time: printed value, ours, its interval and a verdict."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from reports.marks import RULE_JUDGE, UNRANKED
from reports.record import CellResult
from reports.statistics import summary
from reports.statistics.estimates import Analysis, Estimate
from reports.table import TextTable
from reports.tables.paper_audit import PrintedRow, printed_rows
from reports.text import MISSING, format_number, format_signed, sanitize

HEADS = ("Method", "As printed", "Metric", "Printed", "Table", "Ours", "95 % interval", "Difference", "Verdict")
VERSIONS = {"v1": (summary.KR1, summary.AVG1, ""), "v2": (summary.KR2, summary.AVG2, summary.HARS)}
"""Our keys of the paper's K.R, Avg and HARS, by its version."""
DEFAULT_MODEL = "llava-1.5-7b"
"""The paper's model beside which other models are shown."""
NAMES = {
    ("kore", "no-augmentation"): ("kore:no-augmentation", "w/o augmentation"),
    ("kore", "no-constraint"): ("kore:no-constraint", "w/o constraint (= kore-aug)"),
    ("kore", "unfrozen-a"): ("kore:unfrozen-a", "w/o frozen a"),
    ("sefe", ""): ("sefe", "sefe (v2)"),
}
"""Methods that the paper's versions (1, 2) name differently."""
NOT_COMPARED = (*UNRANKED, RULE_JUDGE)
"""Marks that rule out a verdict."""


def compare_with_paper(analysis: Analysis) -> tuple[TextTable, ...]:
    """Make one listing for each version of the paper."""
    return tuple(_compare_version(analysis, version) for version in VERSIONS)


def paper_model(name: str) -> str | None:
    """Return the paper's name of a model, if any: "LLaVA-v1.5-7B" and "llava_1.5_7b" are "llava-1.5-7b"."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower()).replace("llavav15", "llava15")
    known = {row.model: re.sub(r"[^a-z0-9]", "", row.model) for row in printed_rows()}
    return next((model for model, pattern in known.items() if pattern in letters), None)


def printed_row(cell: CellResult, version: str, model: str) -> PrintedRow | None:
    """Find what a version of the paper prints for a cell's method, with the cell's rank if it prints several."""
    rows = {row.method: row for row in printed_rows() if (row.version, row.model) == (version, model)}
    own = NAMES.get((cell.method, cell.variant))
    if own is None and cell.variant:
        return None
    rank = cell.settings.get("rank")
    names = [own[version == "v2"]] if own else []
    for value in [*([rank.value] if rank is not None else []), 235]:
        names += [f"{cell.method} r={value}", f"{cell.method} (r={value})"]
    names.append(cell.method)
    return next((rows[name] for name in names if name in rows), None)


def _compare_version(analysis: Analysis, version: str) -> TextTable:
    records = [record for number in range(len(analysis.rows)) for record in _rows(analysis, number, version)]
    retention, average, hars = VERSIONS[version]
    notes = [
        f"Version {version[1]} of the KORE paper (arXiv 2510.19316) alone: K.R is {retention}, Avg is {average}"
        f"{', HARS is ' + hars if hars else ''}. The versions define them differently and are never mixed.",
        "Within: the printed value lies in our 95 % interval. The paper prints single runs without intervals, so a "
        "value outside ours may still be one that another of its runs would have given.",
    ]
    names = {sanitize(row.first.model) for row in analysis.rows if paper_model(row.first.model) is None}
    if names:
        known = sorted({row.model for row in printed_rows()})
        notes.append(
            f"The paper has no model named {', '.join(sorted(names))}; it has {', '.join(known)}. These rows stand "
            f"beside {DEFAULT_MODEL} for orientation and get no verdict."
        )
    return TextTable(f"paper-{version}", f"Beside the paper, version {version[1]}", HEADS, tuple(records), tuple(notes))


def _rows(analysis: Analysis, number: int, version: str) -> Iterator[tuple[str, ...]]:
    row = analysis.rows[number]
    model = paper_model(row.first.model)
    paper = printed_row(row.first, version, model or DEFAULT_MODEL)
    label = sanitize(row.label)
    if paper is None:
        yield (label, *[MISSING] * 7, "not printed")
        return
    for metric, value in paper.values.items():
        one = _ours(analysis, number, metric, version)
        ours = MISSING if one is None else format_number(one.value)
        gap = MISSING if one is None else format_signed(one.value - value)
        interval = MISSING
        if one is not None and math.isfinite(one.low):
            interval = f"{format_number(one.low)} to {format_number(one.high)}"
        verdict = _verdict(value, one, (*row.marks, *(one.marks if one else ())), model is not None)
        yield (label, paper.method, metric, format_number(value), paper.tables[metric], ours, interval, gap, verdict)


def _ours(analysis: Analysis, number: int, metric: str, version: str) -> Estimate | None:
    """Our number for what a version of the paper calls ``metric``."""
    retention, average, hars = VERSIONS[version]
    key = {"K.R": retention, "Avg": average, "HARS": hars}.get(metric, metric)
    for name in ("CEM", "F1"):
        if metric.startswith(f"{name}/"):
            wanted = metric.removeprefix(f"{name}/").lower()
            for part in analysis.slices:
                if wanted == part.type.lower() or (not part.type and wanted == part.group.lower()):
                    return analysis.types.get((number, f"{part.key}/{name}"))
    return analysis.main.get((number, key)) or analysis.benchmarks.get((number, key))


def _verdict(value: float, one: Estimate | None, marks: tuple[str, ...], same_model: bool) -> str:
    if one is None or not math.isfinite(one.value):
        return "not measured"
    if not same_model:
        return "not comparable: another model"
    excluding = [mark for mark in dict.fromkeys(marks) if mark in NOT_COMPARED]
    if excluding:
        return f"not comparable: {', '.join(excluding)}"
    if not math.isfinite(one.low):
        return "no interval"
    if one.low <= value <= one.high:
        return "within"
    return "ours is higher" if one.value > value else "ours is lower"
