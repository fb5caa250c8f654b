"""Several runs as one, if their numbers may stand in one table; if not, the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from benchmarks.errors import UserError
from reports.record import CellResult, QuestionEntry, Run
from reports.text import join_words

Named = tuple[str, Run]
"""What a run is called in messages (its folder), and its record."""
DECISIVE = {
    "base": "they start from other weights",
    "decoding": "answers were decoded otherwise",
    "precision": "they were computed in another precision",
    "limit": "they were limited otherwise",
}
"""Parts of a run's signature in which runs must agree, and what it means if they do not."""
UNIMPORTANT = ("training.save_every",)
_MEND = "report them apart, or run `diff` on the two"


def merge(runs: Sequence[Named]) -> Run:
    """One record of all cells; what is in several runs is taken once.

    Raises:
        UserError: The runs hold what cannot be compared; it says what and why.
    """
    first = runs[0][1]
    if len(runs) == 1:
        return first
    _agree_on_making(runs)
    questions = _questions(runs)
    _agree_on_scoring(runs)
    cells: dict[tuple[str, ...], tuple[str, CellResult]] = {}
    settings: dict[tuple[str, ...], tuple[str, CellResult]] = {}
    for name, run in runs:
        for cell in run.cells:
            row = (cell.model, cell.data, cell.method, cell.variant, cell.label)
            _agree_on_settings(*settings.setdefault(row, (name, cell)), name, cell)
            key = (*row, str(cell.seed))
            cells[key] = (name, _united(*cells[key], name, cell)) if key in cells else (name, cell)
    names = join_words([name for name, _ in runs])
    return Run(
        title=" + ".join(dict.fromkeys(run.title for _, run in runs)),
        preset=", ".join(dict.fromkeys(run.preset for _, run in runs if run.preset)),
        cells=tuple(cell for _, cell in cells.values()),
        questions=questions,
        pictures={key: uri for _, run in runs for key, uri in run.pictures.items()},
        notes=(
            *dict.fromkeys(note for _, run in runs for note in run.notes),
            f"Merged from {len(runs)} runs: {names}.",
        ),
        signature=" ++ ".join(dict.fromkeys(run.signature for _, run in runs if run.signature)),
    )


def signature_parts(signature: str) -> dict[str, str]:
    """A signature of "name:value" parts, by name."""
    pairs = (part.partition(":") for part in signature.split("|"))
    return {name: value for name, _, value in pairs if value}


def _agree_on_making(runs: Sequence[Named]) -> None:
    """Runs of one model start from the same weights and answer in the same way."""
    for place, (name, run) in enumerate(runs):
        for other_name, other in runs[:place]:
            models = {cell.model for cell in run.cells} & {cell.model for cell in other.cells}
            mine, theirs = signature_parts(run.signature), signature_parts(other.signature)
            for part, meaning in DECISIVE.items():
                if mine.get(part, "") != theirs.get(part, "") and (models or part != "base"):
                    raise UserError(
                        f"these runs cannot be mixed: {meaning} ({part} is {theirs.get(part) or 'not set'} in "
                        f"{other_name}, {mine.get(part) or 'not set'} in {name})",
                        location=name,
                        hint=_MEND,
                    )


def _questions(runs: Sequence[Named]) -> tuple[QuestionEntry, ...]:
    """Every question once; the same id must mean the same question."""
    found: dict[tuple[str, str], tuple[str, QuestionEntry]] = {}
    for name, run in runs:
        for entry in run.questions:
            other_name, other = found.setdefault((entry.benchmark, entry.id), (name, entry))
            if other != entry:
                raise UserError(
                    f"these runs cannot be mixed: question {entry.id} of {entry.benchmark} is another one than in "
                    f"{other_name}",
                    location=name,
                    hint=_MEND,
                )
    return tuple(entry for _, entry in found.values())


def _agree_on_scoring(runs: Sequence[Named]) -> None:
    """A benchmark's numbers were all made in one way: protocol, data, number of questions, scorer, judge."""
    found: dict[str, tuple[str, str]] = {}
    for name, benchmark, signature in _signatures(runs):
        other_name, other = found.setdefault(benchmark, (name, signature))
        if other != signature:
            raise UserError(
                f"these runs cannot be mixed: {benchmark} was scored in another way or on other questions "
                f"({other} in {other_name}, {signature} in {name})",
                location=name,
                hint=_MEND,
            )


def _signatures(runs: Sequence[Named]) -> Iterator[tuple[str, str, str]]:
    for name, run in runs:
        for cell in run.cells:
            for benchmark, result in cell.scores.items():
                if result.signature:
                    yield name, benchmark, result.signature


def _agree_on_settings(one_name: str, one: CellResult, other_name: str, other: CellResult) -> None:
    """The seeds of a row have the same settings."""
    for key, before, after in changed_settings(one, other):
        raise UserError(
            f"these runs cannot be mixed: {other.label} was trained with {key} = {before} in {one_name} and {after} in "
            f"{other_name}, but a row must mean one thing",
            location=other_name,
            hint="report them apart; to compare values of a setting, sweep over it in one run",
        )


def changed_settings(one: CellResult, other: CellResult) -> Iterator[tuple[str, object, object]]:
    """Settings with other values, in alphabetical order; None where there is none."""
    for key in sorted(one.settings.keys() | other.settings.keys()):
        before, after = (None if (it := cell.settings.get(key)) is None else it.value for cell in (one, other))
        if before != after and key not in UNIMPORTANT:
            yield key, before, after


def _united(one_name: str, one: CellResult, other_name: str, other: CellResult) -> CellResult:
    """The same cell of two runs: scores of both, which must not contradict each other."""
    for benchmark in one.scores.keys() & other.scores.keys():
        if _said(one, benchmark) != _said(other, benchmark):
            raise UserError(
                f"these runs cannot be mixed: {other.label}, seed {other.seed}, is in both, but its answers to "
                f"{benchmark} differ from those in {one_name}",
                location=other_name,
                hint=f"{_MEND}; other code, versions or hardware may be the reason",
            )
    kept = one if one.status == "ok" or other.status != "ok" else other
    return replace(kept, scores={**other.scores, **one.scores})


def _said(cell: CellResult, benchmark: str) -> Mapping[str, tuple[str, Mapping[str, float]]]:
    return {item.question_id: (item.answer, item.values) for item in cell.scores[benchmark].items}
