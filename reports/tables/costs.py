"""What each method was trained on and what it cost: steps, tokens, parameters, memory and time.

These are files of their own because seconds and bytes differ between two equal runs, while all other tables do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from reports.formats import markdown, sheet
from reports.record import ELSEWHERE
from reports.statistics.estimates import Analysis
from reports.statistics.rows import ReportRow
from reports.text import MISSING, format_duration, join_words, sanitize

COLUMNS = {
    "optimiser steps": ("optimiser_steps", ""),
    "supervised tokens": ("supervised_tokens", ""),
    "trained parameters": ("trainable_parameters", ""),
    "peak memory": ("peak_memory_bytes", ", bytes"),
    "training": ("training_seconds", ", seconds"),
    "answering": ("answering_seconds", ", seconds"),
}
"""Heading to the field of ``Cost`` and its unit in the CSV file."""
HEADS = ("method", "seeds", *COLUMNS)
CSV_HEADS = ("method", "seeds", *(f"{head}{unit}" for head, (_, unit) in COLUMNS.items()))


def cost_files(analysis: Analysis) -> dict[str, str]:
    """Make ``costs.md`` and ``costs.csv``; nothing if no method was trained."""
    rows = [row for row in analysis.rows if row.usable and not row.is_baseline]
    if not rows:
        return {}
    lines = ["### What each method was given and what it took", "", _line(HEADS), _line(["---"] * len(HEADS))]
    lines += [_line(markdown.escape(text) for text in _formatted(row)) for row in rows]
    lines += ["", *(f"- {markdown.escape(note)}" for note in _notes(rows)), ""]
    return {"costs.md": "\n".join(lines), "costs.csv": sheet.records([CSV_HEADS, *map(_record, rows)])}


def _line(texts: Iterator[str] | tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def _means(row: ReportRow) -> tuple[float, ...]:
    """Means over the seeds that finished, in the order of ``COLUMNS``."""
    return tuple(fmean(getattr(cell.cost, name) for cell in row.usable) for name, _ in COLUMNS.values())


def _formatted(row: ReportRow) -> Iterator[str]:
    *counts, memory, training, answering = _means(row)
    yield sanitize(row.label)
    yield str(len(row.usable))
    yield from (f"{count:,.0f}" if count else MISSING for count in counts)
    yield f"{memory / 2**30:.2f} GiB" if memory else MISSING
    elsewhere = row.first.from_elsewhere
    yield ELSEWHERE if elsewhere else format_duration(training)
    yield ELSEWHERE if elsewhere and not answering else format_duration(answering)


def _record(row: ReportRow) -> tuple[str, ...]:
    return (sanitize(row.label), str(len(row.usable)), *(f"{value:.0f}" for value in _means(row)))


def _notes(rows: list[ReportRow]) -> Iterator[str]:
    """Which methods had equal budgets, and how the numbers were made."""
    by_budget: dict[tuple[float, ...], list[str]] = {}
    for row in (row for row in rows if not row.first.from_elsewhere):
        by_budget.setdefault(_means(row)[:2], []).append(sanitize(row.label))
    usual = max(by_budget, key=lambda budget: len(by_budget[budget]), default=())
    if len(by_budget.get(usual, ())) > 1:
        yield f"The same number of steps and of supervised tokens: {join_words(by_budget[usual])}."
    for budget, names in by_budget.items():
        if budget != usual and all(usual):
            steps, tokens = (own / other for own, other in zip(budget, usual, strict=True))
            first = by_budget[usual][0]
            yield f"{join_words(names)}: {steps:.2f} times the steps and {tokens:.2f} times the tokens of {first}."
    yield (
        "Means over seeds. Training includes what a method prepares, unless an earlier row had prepared it already. "
        "Time and memory are those of the machine at that moment: other work on it makes them larger."
    )
