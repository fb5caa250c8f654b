"""Compare two runs: what changed in how they were made, and whether their scores differ by more than noise."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace

from reports.merge import changed_settings, signature_parts
from reports.record import CellResult, QuestionEntry, Run
from reports.statistics import resampling, summary
from reports.statistics.analysis import analyse
from reports.statistics.contrasts import apply_holm
from reports.statistics.estimates import Analysis, Contrast, Estimate
from reports.table import TextTable
from reports.tables.reading_notes import comparison_note
from reports.text import MISSING, format_number, format_p, format_signed, sanitize

OLD = "old: "
NEW = "new: "
RowKey = tuple[str, str, str, str, str]


def diff_runs(old: Run, new: Run) -> tuple[TextTable, ...]:
    """Make two listings: how the runs were made differently, and each score before and after with its paired test."""
    return _changes(old, new), _scores(old, new)


def _key(cell: CellResult) -> RowKey:
    return cell.model, cell.data, cell.method, cell.variant, cell.label


def _name(key: RowKey) -> str:
    *_, method, _, label = key
    return label or method


def _changes(old: Run, new: Run) -> TextTable:
    """Rows, benchmarks, signatures and settings that were added, removed or changed."""
    records: list[tuple[str, str, str, str]] = []
    mine, theirs = signature_parts(old.signature), signature_parts(new.signature)
    for name in sorted(mine.keys() | theirs.keys()):
        if mine.get(name) != theirs.get(name):
            records.append(("the run", name, mine.get(name, MISSING), theirs.get(name, MISSING)))
    before, after = ({_key(cell): cell for cell in run.cells} for run in (old, new))
    for key in dict.fromkeys([*before, *after]):
        one, other = before.get(key), after.get(key)
        if one is None or other is None:
            was, now = ("is there" if cell else MISSING for cell in (one, other))
            records.append((_name(key), "the row", was, now))
        else:
            records += [(_name(key), *_change_texts(change)) for change in changed_settings(one, other)]
            records += _seed_changes(old, new, key)
    for benchmark in dict.fromkeys(name for run in (old, new) for cell in run.cells for name in cell.scores):
        signatures = [_signature(run, benchmark) for run in (old, new)]
        if signatures[0] != signatures[1]:
            records.append((benchmark, "how it was scored", signatures[0] or MISSING, signatures[1] or MISSING))
        entries = [_entries(run, benchmark) for run in (old, new)]
        if entries[0] != entries[1] and all(signatures):
            counts = [f"{len(questions)} questions" for questions in entries]
            records.append((benchmark, "its questions", counts[0], f"{counts[1]}, not the same"))
    shown = tuple(tuple(sanitize(field, 200) for field in record) for record in records)
    notes = () if records else ("Both runs were made in the same way.",)
    return TextTable("changes", "What was made differently", ("Where", "What", "Before", "After"), shown, notes)


def _change_texts(change: tuple[str, object, object]) -> tuple[str, str, str]:
    key, before, after = change
    shown = [
        MISSING if value is None else value if isinstance(value, str) else json.dumps(value)
        for value in (before, after)
    ]
    return key, shown[0], shown[1]


def _seed_changes(old: Run, new: Run, key: RowKey) -> Iterator[tuple[str, str, str, str]]:
    """Different seeds, and cells with a different status."""
    seeds = [{cell.seed: cell.status for cell in run.cells if _key(cell) == key} for run in (old, new)]
    if seeds[0].keys() != seeds[1].keys():
        texts = [", ".join(map(str, sorted(some))) for some in seeds]
        yield _name(key), "seeds", texts[0], texts[1]
    for seed in sorted(seeds[0].keys() & seeds[1].keys()):
        if seeds[0][seed] != seeds[1][seed]:
            yield _name(key), f"seed {seed} ended", seeds[0][seed], seeds[1][seed]


def _signature(run: Run, benchmark: str) -> str:
    signatures = (cell.scores[benchmark].signature for cell in run.cells if benchmark in cell.scores)
    return " / ".join(dict.fromkeys(signatures))


def _entries(run: Run, benchmark: str) -> dict[str, tuple[str, str, str]]:
    return {one.id: (one.text, one.reference, one.cluster) for one in run.questions if one.benchmark == benchmark}


def _scores(old: Run, new: Run) -> TextTable:
    """Each row that both runs have: its scores before and after, tested on the same questions."""
    analysis = analyse(_join(old, new))
    before, after = (_row_numbers(analysis, prefix) for prefix in (OLD, NEW))
    shared = [key for key in before if key in after]
    raw = {
        (key, measure): one.reversed() if before[key] < after[key] else one
        for key in shared
        for measure in _measures(analysis)
        if (one := analysis.raw.get((min(before[key], after[key]), max(before[key], after[key]), measure))) is not None
    }
    unchanged = {place: one for place, one in raw.items() if one.delta == one.low == one.high == 0}
    tested = apply_holm({place: one for place, one in raw.items() if place not in unchanged}) | unchanged
    records = []
    for key in shared:
        for measure in _measures(analysis):
            values = [_value(analysis, rows[key], measure) for rows in (before, after)]
            if any(map(math.isfinite, values)):
                verdict = _verdict(values, tested.get((key, measure)), measure)
                records.append((sanitize(_name(key)), measure, *map(format_number, values), *verdict))
    heads = ("Method", "Measure", "Before", "After", "Change", "95 % interval", "p", "Verdict")
    notes: tuple[str, ...] = (
        "Paired on the same questions: randomisation test over clusters (exact McNemar test for right-or-wrong "
        "scores), Holm-corrected over all scores of this listing that moved; * at p < 0.05. Seeds are averaged; "
        "another seed may be all of it.",
    )
    notes += comparison_note(
        (f"{sanitize(_name(key))} after and before", measure, after_, before_)
        for key in shared
        for measure in _measures(analysis)
        if (after_ := _estimate(analysis, after[key], measure))
        and (before_ := _estimate(analysis, before[key], measure))
    )
    missing = [_name(key) for key in dict.fromkeys([*before, *after]) if key not in shared]
    more = (f"In one run only: {', '.join(sanitize(name) for name in missing)}.",) if missing else ()
    return TextTable("scores", "What it did to the scores", heads, tuple(records), notes + more)


def _verdict(values: list[float], one: Contrast | None, measure: str) -> tuple[str, str, str, str]:
    if not all(map(math.isfinite, values)):
        return MISSING, MISSING, MISSING, "in one run only"
    change = format_signed(values[1] - values[0])
    if one is None:
        return change, MISSING, MISSING, "not tested" if measure == summary.HARS else "not tested: other questions"
    p = format_p(one.p)
    interval = f"{format_signed(one.low)} to {format_signed(one.high)}"
    if one.p < resampling.ALPHA:
        return change, interval, p, "higher *" if one.delta > 0 else "lower *"
    return change, interval, p, "the same" if one.delta == 0 and one.low == one.high == 0 else "no significant change"


def _measures(analysis: Analysis) -> list[str]:
    return [
        *(one.key for one in summary.MAIN),
        *(summary.canonical(name) for name in analysis.retention),
        *analysis.further,
    ]


def _value(analysis: Analysis, row: int, measure: str) -> float:
    one = _estimate(analysis, row, measure)
    return math.nan if one is None else one.value


def _estimate(analysis: Analysis, row: int, measure: str) -> Estimate | None:
    return analysis.main.get((row, measure)) or analysis.benchmarks.get((row, measure))


def _row_numbers(analysis: Analysis, prefix: str) -> dict[RowKey, int]:
    """The row numbers of one run within the analysis of both."""
    numbers = {}
    for number, row in enumerate(analysis.rows):
        cell = row.first
        if cell.curve == prefix:
            numbers[cell.model, cell.data, cell.method, cell.variant, cell.label.removeprefix(prefix)] = number
    return numbers


def _join(old: Run, new: Run) -> Run:
    """Both runs as one record: prefixes keep apart the labels of rows, and the ids of questions that differ."""
    names = {question.benchmark for run in (old, new) for question in run.questions}
    changed = {name for name in names if _entries(old, name) != _entries(new, name)}
    cells = [_prefixed(cell, prefix, changed) for run, prefix in ((old, OLD), (new, NEW)) for cell in run.cells]
    questions = [*old.questions, *(_renamed(entry, changed) for entry in new.questions)]
    entries = {(entry.benchmark, entry.id): entry for entry in questions}
    return Run("both", cells=tuple(cells), questions=tuple(entries.values()), further={**old.further, **new.further})


def _prefixed(cell: CellResult, prefix: str, changed: set[str]) -> CellResult:
    scores = dict(cell.scores)
    for name in changed & scores.keys() if prefix == NEW else ():
        items = tuple(replace(item, question_id=f"{NEW}{item.question_id}") for item in scores[name].items)
        scores[name] = replace(scores[name], items=items)
    return replace(cell, label=f"{prefix}{cell.label}", curve=prefix, crossed={}, swept="", stages=(), scores=scores)


def _renamed(entry: QuestionEntry, changed: set[str]) -> QuestionEntry:
    return replace(entry, id=f"{NEW}{entry.id}") if entry.benchmark in changed else entry
