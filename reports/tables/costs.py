"""What each method was given and what it took: steps, tokens, parameters, memory and time, in text.

Apart from the other tables, for seconds and bytes differ between two runs of the same thing, and those tables do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from reports.formats import markdown, sheet
from reports.html.row_details import duration
from reports.statistics.estimates import Analysis
from reports.statistics.rows import ReportRow
from reports.text import MISSING, join_words, sanitize

HEADS = (
    "method", "seeds", "optimiser steps", "supervised tokens", "trained parameters", "peak memory", "training",
    "answering",
)  # fmt: skip
FIELDS = (
    "method", "seeds", "optimiser steps", "supervised tokens", "trained parameters", "peak memory, bytes",
    "training, seconds", "answering, seconds",
)  # fmt: skip


def fairness(analysis: Analysis) -> dict[str, str]:
    """The files ``costs.md`` and ``costs.csv``; nothing where no method was trained."""
    rows = [row for row in analysis.rows if row.usable and not row.is_baseline]
    if not rows:
        return {}
    lines = ["### What each method was given and what it took", "", _line(HEADS), _line(["---"] * len(HEADS))]
    lines += [_line(markdown.escape(text) for text in _shown(row)) for row in rows]
    lines += ["", *(f"- {markdown.escape(note)}" for note in _notes(rows)), ""]
    return {"costs.md": "\n".join(lines), "costs.csv": sheet.records([FIELDS, *map(_record, rows)])}


def _line(texts: Iterator[str] | tuple[str, ...] | list[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def _means(row: ReportRow) -> tuple[float, ...]:
    """Over the seeds that ended well, in the order of the heads."""
    costs = [cell.cost for cell in row.usable]
    return tuple(
        fmean(getattr(cost, name) for cost in costs)
        for name in (
            "optimiser_steps", "supervised_tokens", "trainable_parameters", "peak_memory_bytes", "training_seconds",
            "answering_seconds",
        )
    )  # fmt: skip


def _shown(row: ReportRow) -> Iterator[str]:
    *counts, memory, training, answering = _means(row)
    yield sanitize(row.label)
    yield str(len(row.usable))
    yield from (f"{count:,.0f}" if count else MISSING for count in counts)
    yield f"{memory / 2**30:.2f} GiB" if memory else MISSING
    yield duration(training)
    yield duration(answering)


def _record(row: ReportRow) -> tuple[str, ...]:
    return (sanitize(row.label), str(len(row.usable)), *(f"{value:.0f}" for value in _means(row)))


def _notes(rows: list[ReportRow]) -> Iterator[str]:
    """Who was given the same, and what the numbers are."""
    given: dict[tuple[float, ...], list[str]] = {}
    for row in rows:
        given.setdefault(_means(row)[:2], []).append(sanitize(row.label))
    usual = max(given, key=lambda key: len(given[key]))
    if len(given[usual]) > 1:
        yield f"The same number of steps and of supervised tokens: {join_words(given[usual])}."
    for key, names in given.items():
        if key != usual and all(usual):
            steps, tokens = (own / other for own, other in zip(key, usual, strict=True))
            than = given[usual][0]
            yield f"{join_words(names)}: {steps:.2f} times the steps and {tokens:.2f} times the tokens of {than}."
    yield (
        "Means over seeds. Training includes what a method prepares, unless an earlier row had prepared it already. "
        "Time and memory are those of the machine at that moment: other work on it makes them larger."
    )
