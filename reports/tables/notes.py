"""What stands below a table, in plain English: how its numbers were made and what they do not say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import fmean

from benchmarks import aggregate
from reports.statistics import resampling as statistics
from reports.statistics import summary
from reports.statistics.estimates import Analysis, Estimate, Key
from reports.statistics.samples import metric_value
from reports.text import OTHER_SYMBOL, SYMBOLS, format_number, join_words, sanitize

_MARKS = {
    "rule-judge": "judged by a fixed rule where the original benchmark asks a judge model; not comparable with it",
    "limited": "only part of the questions were asked; never ranked",
    "transductive": "the method has seen inputs of an evaluation benchmark; never ranked",
    "leaked": "the training data holds evaluation questions of this run, with their answers; never ranked",
    "unjudged": "needs a judge that was not there; never ranked",
}


def notes_for(analysis: Analysis, estimates: Mapping[Key, Estimate], table: str) -> tuple[str, ...]:
    """The notes of one table, most important first."""
    if not analysis.rows:
        return ("This run has no cells yet: nothing was trained or answered.",)
    notes = [sanitize(note, 600) for note in analysis.run.notes]
    notes += _meaning(analysis, estimates)
    notes += _marks(analysis, estimates)
    notes += _missing(analysis)
    if table == "main":
        notes += [*_data(analysis), *_definitions(), *_ceiling(analysis)]
    notes += _answers(analysis) if table != "types" else []
    notes += [sanitize(note, 600) for note in _benchmark_notes(analysis)] if table == "benchmarks" else []
    if analysis.run.signature:
        notes.append(f"Signature: {sanitize(analysis.run.signature, 600)}")
    return tuple(dict.fromkeys(notes))


def _meaning(analysis: Analysis, estimates: Mapping[Key, Estimate]) -> list[str]:
    notes = [
        "Scores are on 0-100, higher is better; bold is the best method, underlined the second best. The untouched "
        "base model and marked rows are not ranked.",
        f"Intervals are at 95 %, from {statistics.DRAWS:,} bootstrap resamples of the questions, in whole "
        "clusters where questions share a picture.",
    ]
    if any(estimate.p == estimate.p for estimate in estimates.values()):
        notes.append(
            "* differs from the untouched base at p < 0.05: paired randomisation test over clusters (exact McNemar "
            "test for right-or-wrong scores), Holm-corrected over all tests of this table."
        )
    elif any(not row.is_baseline for row in analysis.rows):
        notes.append("No test against the untouched base: this run has none on the same questions.")
    seeds = {len(row.usable) for row in analysis.rows if not row.is_baseline and row.usable}
    if seeds == {1}:
        notes.append("One training seed: the intervals do not show how much another seed would change the scores.")
    elif seeds:
        counts = join_words([str(count) for count in sorted(seeds)])
        notes.append(f"Means over {counts} training seeds; the intervals hold these seeds fixed.")
    reach = [one.resolution for one in estimates.values() if one.resolution > 0]
    if reach:
        notes.append(
            f"Smallest true difference to the base that would be found 4 times in 5, before correction: from "
            f"{format_number(min(reach))} to {format_number(max(reach))} points, depending on the column."
        )
    return notes


def _marks(analysis: Analysis, estimates: Mapping[Key, Estimate]) -> list[str]:
    found: Iterable[str] = [mark for one in estimates.values() for mark in one.marks]
    rows = [mark for row in analysis.rows for cell in row.cells for mark in cell.marks]
    notes = []
    for mark in dict.fromkeys([*found, *rows]):
        sign = SYMBOLS.get(mark, OTHER_SYMBOL)
        notes.append(f"{sign} {sanitize(mark)}: {_MARKS[mark]}." if mark in _MARKS else f"{sign} {sanitize(mark)}.")
    return notes


def _missing(analysis: Analysis) -> list[str]:
    notes = [f"{sanitize(row.label)}: {sanitize(row.status, 300)}." for row in analysis.rows if row.status]
    have = {summary.canonical(name) for name in analysis.retention}
    absent = [name for name in aggregate.TWELVE if name not in have]
    if absent and len(absent) < len(aggregate.TWELVE):
        notes.append(f"Not in this run: {join_words(absent)}. Summaries that need them are left out, not guessed.")
    elif absent:
        notes.append("No retention benchmark in this run: nothing can be said about what was forgotten.")
    if not analysis.adaptation:
        notes.append("No benchmark of new knowledge in this run: nothing can be said about what was learned.")
    for row in analysis.rows:
        names = [*([analysis.adaptation] if analysis.adaptation else []), *analysis.retention]
        lacking = [sanitize(name) for name in names if row.usable and not row.results(name)]
        if lacking:
            notes.append(f"{sanitize(row.label)} has no score for {join_words(lacking)}.")
    if analysis.recentred:
        notes.append(
            f"{join_words(list(analysis.recentred))}: the headline is no plain mean over items; its interval is that of "
            "their mean, moved onto it."
        )
    return notes


def _data(analysis: Analysis) -> list[str]:
    """Rows that were trained on different data differ in more than the method."""
    given: dict[str, list[str]] = {}
    for row in analysis.rows:
        if not row.is_baseline and row.first.data:
            given.setdefault(sanitize(row.first.data), []).append(sanitize(row.label))
    if len(given) < 2:
        return []
    said = "; ".join(f"“{name}” for {join_words(rows)}" for name, rows in given.items())
    return [f"Rows differ in their training data too: {said}."]


def _definitions() -> list[str]:
    return [
        "K.A = (CEM + F1) / 2. Versions 1 and 2 of the KORE paper (arXiv 2510.19316) define retention differently: v1 "
        "averages the seven dimensions, v2 the twelve benchmarks. Never compare numbers across versions.",
        "HARS (v2) is the harmonic mean of the relative gain in K.A and the share of K.R kept; none without a gain.",
    ]


def _ceiling(analysis: Analysis) -> list[str]:
    """How far CEM can go on these references, and CEM without its blind spot."""
    safe, tops = [], []
    for row in analysis.rows:
        results = row.results(analysis.adaptation) if analysis.adaptation else []
        found = [metric_value(result, "CEM_safe") for result in results]
        tops += [metric_value(result, "ceiling") for result in results]
        usual = [metric_value(result, summary.CEM) for result in results]
        if found and math.isfinite(fmean(found)) and format_number(fmean(found)) != format_number(fmean(usual)):
            safe.append(f"{sanitize(row.label)} {format_number(fmean(found))}")
    if not tops or not math.isfinite(tops[0]):
        return []
    top = format_number(tops[0])
    limit = (
        "Every reference matches itself, so CEM can reach 100."
        if top == format_number(100.0)
        else f"CEM cannot exceed {top} here, for the other references do not even match themselves (a quotation mark "
        "or a sign at their edge)."
    )
    bounded = f"CEM with safe word boundaries differs: {join_words(safe)}." if safe else (
        "CEM with safe word boundaries is the same everywhere."
    )  # fmt: skip
    return [f"{limit} {bounded}"]


def _answers(analysis: Analysis) -> list[str]:
    asked, counts = 0, dict.fromkeys(("empty", "unparsed", "failed"), 0)
    for row in analysis.rows:
        for cell in row.usable:
            for result in cell.scores.values():
                asked += result.n
                for item in result.items:
                    if item.status in counts:
                        counts[item.status] += 1
    if not asked:
        return []
    parts = [f"{count:,} {name}" for name, count in counts.items()]
    return [f"Of {asked:,} answers, {join_words(parts)}; all of them count as asked."]


def _benchmark_notes(analysis: Analysis) -> list[str]:
    found = [
        f"{name}: {note}"
        for row in analysis.rows
        for name in analysis.retention
        for result in row.results(name)
        for note in result.notes
    ]
    return list(dict.fromkeys(found))
