"""Merge several runs into one, or explain why their numbers cannot share a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from benchmarks.errors import UserError
from reports.record import VANILLA, CellResult, QuestionEntry, Run
from reports.text import join_words

Named = tuple[str, Run]
"""A run's name in messages (its folder) and its record."""
DECISIVE = {
    "base": "they start from different weights",
    "decoding": "their answers were decoded differently",
    "precision": "they were computed in different precisions",
    "limit": "they were limited differently",
    "stages": "their knowledge arrived in different stages",
}
"""Parts of a run's signature that must be equal, and what it means if they are not."""
IGNORED_SETTINGS = ("training.save_every",)
LONGEST_TITLE = 100
"""Characters of a title that names the runs; above that they are only counted."""
_HINT = "report them separately, or run `diff` on the two"


def merge(runs: Sequence[Named]) -> Run:
    """Return one record with the cells of all runs; a cell that is in several runs is taken once.

    Raises:
        UserError: The runs cannot be compared; the message gives the reason.
    """
    first = runs[0][1]
    if len(runs) == 1:
        return first
    _check_same_setup(runs)
    questions = _merge_questions(runs)
    _check_same_scoring(runs)
    _check_same_knowledge(runs)
    cells: dict[tuple[str, ...], tuple[str, CellResult]] = {}
    settings: dict[tuple[str, ...], tuple[str, CellResult]] = {}
    for name, run in runs:
        for cell in run.cells:
            row = (cell.model, cell.data, cell.method, cell.variant, cell.label)
            _check_same_settings(*settings.setdefault(row, (name, cell)), name, cell)
            key = (*row, str(cell.seed))
            cells[key] = (name, _merge_cell(*cells[key], name, cell)) if key in cells else (name, cell)
    names = join_words([name for name, _ in runs])
    return Run(
        title=_title([run for _, run in runs]),
        preset=", ".join(dict.fromkeys(run.preset for _, run in runs if run.preset)),
        cells=tuple(cell for _, cell in cells.values()),
        questions=questions,
        pictures={key: uri for _, run in runs for key, uri in run.pictures.items()},
        notes=(
            *dict.fromkeys(note for _, run in runs for note in run.notes),
            f"Merged from {len(runs)} runs: {names}.",
        ),
        signature=" ++ ".join(dict.fromkeys(run.signature for _, run in runs if run.signature)),
        further={name: dimension for _, run in runs for name, dimension in run.further.items()},
    )


def _title(runs: Sequence[Run]) -> str:
    """The titles of the runs, or how many rows and runs there are if that is long."""
    joined = " + ".join(dict.fromkeys(run.title for run in runs))
    if len(joined) <= LONGEST_TITLE:
        return joined
    rows = {(cell.model, cell.label) for run in runs for cell in run.cells if cell.method != VANILLA}
    return f"{len(rows)} rows from {len(runs)} runs"


def _refusal(reason: str, location: str, hint: str = _HINT) -> UserError:
    return UserError(f"these runs cannot be merged: {reason}", location=location, hint=hint)


def signature_parts(signature: str) -> dict[str, str]:
    """Split a signature of "name:value" parts, by name."""
    pairs = (part.partition(":") for part in signature.split("|"))
    return {name: value for name, _, value in pairs if value}


def _check_same_setup(runs: Sequence[Named]) -> None:
    """Refuse runs that differ in a part of ``DECISIVE``; base weights need to agree only for a model in both."""
    for place, (name, run) in enumerate(runs):
        for other_name, other in runs[:place]:
            models = {cell.model for cell in run.cells} & {cell.model for cell in other.cells}
            mine, theirs = signature_parts(run.signature), signature_parts(other.signature)
            for part, meaning in DECISIVE.items():
                if mine.get(part, "") != theirs.get(part, "") and (models or part != "base"):
                    raise _refusal(
                        f"{meaning} ({part} is {theirs.get(part) or 'not set'} in {other_name}, "
                        f"{mine.get(part) or 'not set'} in {name})",
                        name,
                    )


def _merge_questions(runs: Sequence[Named]) -> tuple[QuestionEntry, ...]:
    """Take every question once; an id must mean the same question in all runs."""
    merged: dict[tuple[str, str], tuple[str, QuestionEntry]] = {}
    for name, run in runs:
        for entry in run.questions:
            other_name, other = merged.setdefault((entry.benchmark, entry.id), (name, entry))
            if other != entry:
                raise _refusal(f"question {entry.id} of {entry.benchmark} differs from the one in {other_name}", name)
    return tuple(entry for _, entry in merged.values())


def _check_same_scoring(runs: Sequence[Named]) -> None:
    """Refuse a benchmark with different protocols, data, numbers of questions, scorers or judges."""
    first: dict[str, tuple[str, str]] = {}
    for name, benchmark, signature in _signatures(runs):
        other_name, other = first.setdefault(benchmark, (name, signature))
        if other != signature:
            raise _refusal(
                f"{benchmark} was scored differently or on other questions ({other} in {other_name}, "
                f"{signature} in {name})",
                name,
            )


def _signatures(runs: Sequence[Named]) -> Iterator[tuple[str, str, str]]:
    for name, run in runs:
        for cell in run.cells:
            for benchmark, result in cell.scores.items():
                if result.signature:
                    # Rows that another engine answered are marked as such, in one run as in several.
                    yield (
                        name,
                        benchmark,
                        "|".join(part for part in result.signature.split("|") if not part.startswith("engine ")),
                    )


def _check_same_knowledge(runs: Sequence[Named]) -> None:
    """Refuse a row that was trained on different knowledge; a record of an earlier version does not say on which."""
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for name, run in runs:
        knowledge = signature_parts(run.signature).get("knowledge")
        rows = {(cell.model, cell.label) for cell in run.cells if not cell.is_vanilla and not cell.from_elsewhere}
        if knowledge is None:
            continue
        for row in sorted(rows):
            other_name, other = first.setdefault(row, (name, knowledge))
            if other != knowledge:
                raise _refusal(f"{row[1]} was trained on other knowledge than in {other_name}", name)


def _check_same_settings(one_name: str, one: CellResult, other_name: str, other: CellResult) -> None:
    """Refuse a row whose seeds were trained with different settings."""
    for key, before, after in changed_settings(one, other):
        raise _refusal(
            f"{other.label} was trained with {key} = {before} in {one_name} "
            f"and {after} in {other_name}, but a row must mean one thing",
            other_name,
            hint="report them separately; to compare values of a setting, sweep over it in one run",
        )


def changed_settings(one: CellResult, other: CellResult) -> Iterator[tuple[str, object, object]]:
    """Yield each setting and each file of code that differs, by name, with both values; None for a missing one."""
    for key in sorted(one.settings.keys() | other.settings.keys()):
        before, after = (cell.settings[key].value if key in cell.settings else None for cell in (one, other))
        if before != after and key not in IGNORED_SETTINGS:
            yield key, before, after
    for name in sorted(one.code.keys() | other.code.keys()):
        if one.code.get(name) != other.code.get(name):
            yield f"code {name}", one.code.get(name), other.code.get(name)


def _merge_cell(one_name: str, one: CellResult, other_name: str, other: CellResult) -> CellResult:
    """Merge the same cell of two runs; scores that both have must be equal."""
    for benchmark in one.scores.keys() & other.scores.keys():
        if _answers(one, benchmark) != _answers(other, benchmark):
            raise _refusal(
                f"{other.label}, seed {other.seed}, is in both, but its answers to {benchmark} differ from "
                f"those in {one_name}",
                other_name,
                hint=f"{_HINT}; other code, versions or hardware may be the reason",
            )
    finished = one if one.status == "ok" or other.status != "ok" else other
    # Of either run: a leak is found only where questions about the knowledge are asked.
    marks = tuple(dict.fromkeys((*one.marks, *other.marks)))
    return replace(finished, scores={**other.scores, **one.scores}, marks=marks)


def _answers(cell: CellResult, benchmark: str) -> Mapping[str, tuple[str, Mapping[str, float]]]:
    return {item.question_id: (item.answer, item.values) for item in cell.scores[benchmark].items}
