"""What changed from one run to another, and whether it is more than noise."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from reports.merge import changed_settings, signature_parts
from reports.model import TextTable
from reports.record import BenchmarkResult, CellResult, QuestionEntry, Run
from reports.statistics import resampling as statistics
from reports.statistics import summary
from reports.statistics.analysis import analyse
from reports.statistics.contrasts import correct
from reports.statistics.estimates import Analysis, Contrast
from reports.text import MISSING, format_number, format_signed, p_text, sanitize

OLD, NEW = "old: ", "new: "
RowKey = tuple[str, str, str, str, str]


def difference(old: Run, new: Run) -> tuple[TextTable, ...]:
    """Two listings: what was made otherwise, and each score before and after with its paired test."""
    return _making(old, new), _scores(old, new)


def _key(cell: CellResult) -> RowKey:
    return cell.model, cell.data, cell.method, cell.variant, cell.label


def _making(old: Run, new: Run) -> TextTable:
    """Rows, benchmarks, signatures and settings that came, went or changed."""
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
            records.append((key[4] or key[2], "the row", was, now))
        else:
            records += [(key[4] or key[2], *_texts(change)) for change in changed_settings(one, other)]
            records += list(_seeds(old, new, key))
    for benchmark in dict.fromkeys(name for run in (old, new) for cell in run.cells for name in cell.scores):
        signs = [_signature(run, benchmark) for run in (old, new)]
        if signs[0] != signs[1]:
            records.append((benchmark, "how it was scored", signs[0] or MISSING, signs[1] or MISSING))
        if _entries(old, benchmark) != _entries(new, benchmark) and all(signs):
            count = [str(len(_entries(run, benchmark))) for run in (old, new)]
            records.append((benchmark, "its questions", f"{count[0]} questions", f"{count[1]} questions, not the same"))
    shown = tuple(tuple(sanitize(field, 200) for field in record) for record in records)
    notes = () if records else ("Both runs were made in the same way.",)
    return TextTable("changes", "What was made otherwise", ("Where", "What", "Before", "After"), shown, notes)


def _texts(change: tuple[str, object, object]) -> tuple[str, str, str]:
    key, before, after = change
    shown = [
        MISSING if value is None else value if isinstance(value, str) else json.dumps(value)
        for value in (before, after)
    ]
    return key, shown[0], shown[1]


def _seeds(old: Run, new: Run, key: RowKey) -> Iterator[tuple[str, str, str, str]]:
    """Other seeds, and cells that ended otherwise."""
    seeds = [{cell.seed: cell.status for cell in run.cells if _key(cell) == key} for run in (old, new)]
    if seeds[0].keys() != seeds[1].keys():
        texts = [", ".join(map(str, sorted(some))) for some in seeds]
        yield key[4] or key[2], "seeds", texts[0], texts[1]
    for seed in sorted(seeds[0].keys() & seeds[1].keys()):
        if seeds[0][seed] != seeds[1][seed]:
            yield key[4] or key[2], f"seed {seed} ended", seeds[0][seed], seeds[1][seed]


def _signature(run: Run, benchmark: str) -> str:
    found = dict.fromkeys(cell.scores[benchmark].signature for cell in run.cells if benchmark in cell.scores)
    return " / ".join(found)


def _entries(run: Run, benchmark: str) -> dict[str, tuple[str, str, str]]:
    return {one.id: (one.text, one.reference, one.cluster) for one in run.questions if one.benchmark == benchmark}


def _scores(old: Run, new: Run) -> TextTable:
    """Each row that both runs have: its scores before and after, tested on the same questions."""
    analysis = analyse(_together(old, new))
    before, after = (_numbers(analysis, mark) for mark in (OLD, NEW))
    shared = [key for key in before if key in after]
    raw = {
        (key, measure): one.reversed() if before[key] < after[key] else one
        for key in shared
        for measure in _measures(analysis)
        if (one := analysis.raw.get((min(before[key], after[key]), max(before[key], after[key]), measure))) is not None
    }
    still = {place: one for place, one in raw.items() if one.delta == one.low == one.high == 0}
    tested = correct({place: one for place, one in raw.items() if place not in still}) | still
    records = []
    for key in shared:
        for measure in _measures(analysis):
            values = [_value(analysis, rows[key], measure) for rows in (before, after)]
            if any(map(math.isfinite, values)):
                one = tested.get((key, measure))
                records.append(
                    (sanitize(key[4] or key[2]), measure, *map(format_number, values), *_judged(values, one, measure))
                )
    heads = ("Method", "Measure", "Before", "After", "Change", "95 % interval", "p", "Verdict")
    notes = (
        "Paired on the same questions: randomisation test over clusters (exact McNemar test for right-or-wrong "
        "scores), Holm-corrected over all scores of this listing that moved; * at p < 0.05. Seeds are averaged; "
        "another seed may be all of it.",
    )
    missing = [key[4] or key[2] for key in dict.fromkeys([*before, *after]) if key not in shared]
    more = (f"In one run only: {', '.join(sanitize(name) for name in missing)}.",) if missing else ()
    return TextTable("scores", "What it did to the scores", heads, tuple(records), notes + more)


def _judged(values: list[float], one: Contrast | None, measure: str) -> tuple[str, str, str, str]:
    if not all(map(math.isfinite, values)):
        return MISSING, MISSING, MISSING, "in one run only"
    change = format_signed(values[1] - values[0])
    if one is None:
        return change, MISSING, MISSING, "not tested" if measure == summary.HARS else "not tested: other questions"
    p = p_text(one.p).removeprefix("p ").removeprefix("= ")
    interval = f"{format_signed(one.low)} to {format_signed(one.high)}"
    if one.p < statistics.ALPHA:
        return change, interval, p, "higher *" if one.delta > 0 else "lower *"
    return change, interval, p, "the same" if one.delta == 0 and one.low == one.high == 0 else "no significant change"


def _measures(analysis: Analysis) -> list[str]:
    return [*(one.key for one in summary.MAIN), *(summary.canonical(name) for name in analysis.retention)]


def _value(analysis: Analysis, row: int, measure: str) -> float:
    one = analysis.main.get((row, measure)) or analysis.benchmarks.get((row, measure))
    return math.nan if one is None else one.value


def _numbers(analysis: Analysis, mark: str) -> dict[RowKey, int]:
    """Where the rows of one run are within the analysis of both."""
    found = {}
    for number, row in enumerate(analysis.rows):
        cell = row.first
        if cell.curve == mark:
            found[cell.model, cell.data, cell.method, cell.variant, cell.label.removeprefix(mark)] = number
    return found


def _together(old: Run, new: Run) -> Run:
    """Both runs as one record; rows told apart by their labels, other questions by their ids."""
    names = {question.benchmark for run in (old, new) for question in run.questions}
    other = {name for name in names if _entries(old, name) != _entries(new, name)}
    cells = [_marked(cell, mark, other) for run, mark in ((old, OLD), (new, NEW)) for cell in run.cells]
    entries = {(one.benchmark, one.id): one for one in old.questions}
    entries |= {(one.benchmark, one.id): one for one in (_renamed(one, other) for one in new.questions)}
    return Run("both", cells=tuple(cells), questions=tuple(entries.values()))


def _marked(cell: CellResult, mark: str, other: set[str]) -> CellResult:
    moved: Mapping[str, BenchmarkResult] = {
        name: replace(
            result, items=tuple(replace(item, question_id=f"{NEW}{item.question_id}") for item in result.items)
        )
        if name in other and mark == NEW
        else result
        for name, result in cell.scores.items()
    }
    return replace(cell, label=f"{mark}{cell.label}", curve=mark, crossed={}, swept="", stages=(), scores=moved)


def _renamed(entry: QuestionEntry, other: set[str]) -> QuestionEntry:
    return replace(entry, id=f"{NEW}{entry.id}") if entry.benchmark in other else entry
