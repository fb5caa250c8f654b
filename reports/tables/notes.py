"""The notes below a table: how its numbers were made and what they do not show."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from statistics import fmean

from benchmarks import aggregate
from reports.marks import meaning, symbol
from reports.statistics import resampling, summary
from reports.statistics.editing import other_items
from reports.statistics.estimates import Analysis, Estimate, Key
from reports.statistics.samples import metric_value
from reports.tables.branches import branch_notes
from reports.tables.parameters import parameter_notes
from reports.tables.reading_notes import reading_notes
from reports.text import format_number, join_words, sanitize


def table_notes(analysis: Analysis, estimates: Mapping[Key, Estimate], table: str) -> tuple[str, ...]:
    """Return the notes of one table, the most important first."""
    if not analysis.rows:
        return ("This run has no cells yet: nothing was trained or answered.",)
    notes = [*common_notes(analysis, estimates), *_missing(analysis)]
    if table == "main":
        notes += [*_training_data(analysis), *branch_notes(analysis), *parameter_notes(analysis)]
        notes += [*_definitions(), *_ceiling(analysis), *_adaptation_notes(analysis)]
    notes += _answers(analysis) if table != "types" else []
    notes += reading_notes(analysis, estimates, table)
    notes += [sanitize(note, 600) for note in _benchmark_notes(analysis)] if table == "benchmarks" else []
    if analysis.run.signature:
        notes.append(f"Signature: {sanitize(analysis.run.signature, 600)}")
    return tuple(dict.fromkeys(notes))


def common_notes(analysis: Analysis, estimates: Mapping[Key, Estimate]) -> list[str]:
    """The notes that any table with a line for each method needs: the run's own, intervals, tests and marks."""
    notes = [sanitize(note, 600) for note in analysis.run.notes]
    return [*notes, *_meaning(analysis, estimates), *_marks(analysis, estimates)]


def _meaning(analysis: Analysis, estimates: Mapping[Key, Estimate]) -> list[str]:
    notes = [
        "Scores are on 0-100, higher is better; bold is the best method, underlined the second best. The untouched "
        "base model and marked rows are not ranked.",
        f"Intervals are at 95 %, from {resampling.N_BOOTSTRAP:,} bootstrap resamples of the questions, in whole "
        "clusters where questions share a picture.",
    ]
    if any(math.isfinite(estimate.p) for estimate in estimates.values()):
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
    detectable = [one.resolution for one in estimates.values() if one.resolution > 0]
    if detectable:
        notes.append(
            f"Smallest true difference to the base that would be found 4 times in 5, before correction: from "
            f"{format_number(min(detectable))} to {format_number(max(detectable))} points, depending on the column."
        )
    return notes


def _marks(analysis: Analysis, estimates: Mapping[Key, Estimate]) -> list[str]:
    marks = [mark for one in estimates.values() for mark in one.marks]
    marks += [mark for row in analysis.rows for cell in row.cells for mark in cell.marks]
    return [f"{symbol(mark)} {': '.join(_explained(mark))}." for mark in dict.fromkeys(marks)]


def _explained(mark: str) -> list[str]:
    """The mark and, if it is known, what it means."""
    return [sanitize(mark), *filter(None, [meaning(mark)])]


def _missing(analysis: Analysis) -> list[str]:
    notes = [f"{sanitize(row.label)}: {sanitize(row.status, 300)}." for row in analysis.rows if row.status]
    present = {summary.canonical(name) for name in analysis.retention}
    absent = [name for name in aggregate.TWELVE if name not in present]
    if absent and len(absent) < len(aggregate.TWELVE):
        notes.append(f"Not in this run: {join_words(absent)}. Summaries that need them are left out, not guessed.")
    elif absent:
        notes.append("No retention benchmark in this run: nothing can be said about what was forgotten.")
    if not analysis.adaptation:
        notes.append("No benchmark of new knowledge in this run: nothing can be said about what was learned.")
    for row in analysis.rows:
        names = [*([analysis.adaptation] if analysis.adaptation else []), *analysis.retention, *analysis.further]
        unscored = [sanitize(name) for name in names if row.usable and not row.results(name)]
        if unscored:
            notes.append(f"{sanitize(row.label)} has no score for {join_words(unscored)}.")
    if analysis.further:
        notes.append(
            f"{join_words([sanitize(name) for name in analysis.further])}: beyond the paper's benchmarks and in no "
            "summary; corrected for multiple tests with the table of benchmarks."
        )
    if analysis.recentred:
        notes.append(
            f"{join_words(list(analysis.recentred))}: the headline is no plain mean over items; its interval is that "
            "of their mean, moved onto it."
        )
    return notes


def _training_data(analysis: Analysis) -> list[str]:
    """Say so if rows were trained on different data, since they then differ in more than the method."""
    by_data: dict[str, list[str]] = {}
    for row in analysis.rows:
        if not row.is_baseline and row.first.data:
            by_data.setdefault(sanitize(row.first.data), []).append(sanitize(row.label))
    if len(by_data) < 2:
        return []
    parts = "; ".join(f"“{name}” for {join_words(rows)}" for name, rows in by_data.items())
    return [f"Rows differ in their training data too: {parts}."]


def _definitions() -> list[str]:
    return [
        "K.A = (CEM + F1) / 2. Versions 1 and 2 of the KORE paper (arXiv 2510.19316) define retention differently: v1 "
        "averages the seven dimensions, v2 the twelve benchmarks. Never compare numbers across versions.",
        "HARS (v2) is the harmonic mean of the relative gain in K.A and the share of K.R kept; none without a gain.",
    ]


def _ceiling(analysis: Analysis) -> list[str]:
    """The highest CEM that these references allow, and CEM with safe word boundaries."""
    safe, ceilings = [], []
    for row in analysis.rows:
        results = row.results(analysis.adaptation) if analysis.adaptation else []
        bounded = [metric_value(result, "CEM_safe") for result in results]
        ceilings += [metric_value(result, "ceiling") for result in results]
        official = [metric_value(result, summary.CEM) for result in results]
        if (
            bounded
            and math.isfinite(fmean(bounded))
            and format_number(fmean(bounded)) != format_number(fmean(official))
        ):
            safe.append(f"{sanitize(row.label)} {format_number(fmean(bounded))}")
    if not ceilings or not math.isfinite(ceilings[0]):
        return []
    ceiling = format_number(ceilings[0])
    limit = (
        "Every reference can be matched, so CEM can reach 100."
        if ceiling == format_number(100.0)
        else f"CEM cannot exceed {ceiling} here, for the other references do not even match themselves (a quotation "
        "mark or a sign at their edge)."
    )
    difference = f"differs: {join_words(safe)}" if safe else "is the same everywhere"
    return [f"{limit} CEM with safe word boundaries {difference}."]


def _adaptation_notes(analysis: Analysis) -> list[str]:
    """What is wrong with the references of the questions about new knowledge."""
    results = [result for row in analysis.rows for result in row.results(analysis.adaptation)]
    notes = [note for result in results if "emptied" in result.metrics for note in result.notes[:1]]
    return [sanitize(f"{analysis.adaptation}: {note}.", 600) for note in dict.fromkeys(notes)]


def _answers(analysis: Analysis) -> list[str]:
    cells = [cell for row in analysis.rows for cell in row.usable]
    items = [item for cell in cells for item in other_items(cell)]
    if not items:
        return []
    statuses, cut = Counter(item.status for item in items), sum(item.truncated for item in items)
    parts = [f"{statuses[name]:,} {name}" for name in ("empty", "unparsed", "failed")]
    parts += [f"{cut:,} truncated"] if cut else []
    return [f"Of {len(items):,} answers, {join_words(parts)}; all of them count as asked."]


def _benchmark_notes(analysis: Analysis) -> list[str]:
    notes = [
        f"{name}: {note}"
        for row in analysis.rows
        for name in (*analysis.retention, *analysis.further)
        for result in row.results(name)
        for note in result.notes
    ]
    return list(dict.fromkeys(notes))
