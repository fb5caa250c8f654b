"""Recompute every number of a run from its stored answers, and compare (invariant I7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.experiment.answer import answers_at
from harness.experiment.cell import TRAINING
from harness.experiment.context import RunContext, build_context
from harness.experiment.leakage import count_leaked
from harness.experiment.products import CellOutput
from harness.experiment.request_file import read_request
from harness.experiment.results import REPORT, compose, read_places, read_results
from harness.experiment.score import score_fresh
from harness.experiment.stage_runner import new_stage, stages_of
from harness.experiment.stages import merge_records
from reports.record import CellResult, Run

RECOMPUTED = ("ok", "diverged")
"""The statuses of cells that leave something in the store to recompute them from."""
FEW = 20
"""Differences that are shown; the rest is counted."""


@dataclass(frozen=True)
class VerificationReport:
    """What ``verify`` found."""

    entries: int
    """Stored entries whose content was compared with its checksum."""
    answers: int
    scores: int
    """Scores that were computed again."""
    numbers: int
    """Numbers in the record of the run that were compared."""
    files: int
    """Files of the report that were compared byte for byte."""
    differences: tuple[str, ...]


def verify(folder: Path) -> VerificationReport:
    """Score the stored answers again, make the record and the tables again, and compare all of it with what is there.

    Raises:
        UserError: The folder holds no finished run.
    """
    reported = read_results(folder)
    context = build_context(read_request(folder), say=lambda line: None)
    entries = list(context.store.entries())
    differences = [f"{kind}/{key[:12]} is damaged" for kind, key in entries if not context.store.check(kind, key)]
    products = _products(context, reported, read_places(folder), differences)
    scores = score_fresh(products, context.sources.asked)
    recomputed = _with_the_rest(
        compose(products, context.sources, context.request.resolved, reported.signature), reported
    )
    numbers = 0
    for line in _compared(asdict(reported), asdict(recomputed), "results"):
        if line is None:
            numbers += 1
        else:
            differences.append(line)
    files = _compare_files(recomputed, folder / REPORT, differences)
    answers = sum(len(found) for product in products for found in product.answers.values())
    answers += sum(len(stage.answers) for product in products for stage in product.stages)
    return VerificationReport(len(entries), answers, scores, numbers, files, tuple(differences))


def _products(
    context: RunContext, reported: Run, places: Mapping[tuple[str, int], Mapping[str, Any]], differences: list[str]
) -> list[CellOutput]:
    """The cells' products from the store alone, found by their keys: code may have changed since."""
    there = {(cell.label, cell.seed): cell for cell in reported.cells}
    products = []
    for cell in context.cells:
        product, place, known = CellOutput(cell), (cell.label, cell.seed), there.get((cell.label, cell.seed))
        products.append(product)
        if known is None or place not in places:
            differences.append(f"{cell.title} is not in the results")
        elif known.status in RECOMPUTED:
            _fill(product, context, places[place], known, differences)
    return products


def _fill(
    product: CellOutput, context: RunContext, place: Mapping[str, Any], known: CellResult, differences: list[str]
) -> None:
    title, store = product.cell.title, context.store
    if place["training"]:
        found = store.read_key(TRAINING, place["training"])
        if found is None:
            differences.append(f"{title}: its training is not in the store")
            return
        product.training, recipe = found
        if place.get("stages") and not _fill_stages(product, context, place["stages"], differences):
            return
        product.status, product.reason = product.training["status"], product.training["reason"]
        product.leaks = count_leaked(context, product.cell) if product.status == "ok" else 0
        told = {name: setting.value for name, setting in known.settings.items()}
        lines = _compared(
            recipe["settings"], {name: told.get(name) for name in recipe["settings"]}, f"{title}: settings"
        )
        differences += [line for line in lines if line is not None]
    for name, key in place["answers"].items():
        answers = answers_at(store, key)
        if answers is None:
            differences.append(f"{title}: its answers to {name} are not in the store")
        else:
            product.answers[name] = answers


def _fill_stages(
    product: CellOutput, context: RunContext, places: Sequence[Mapping[str, str]], differences: list[str]
) -> bool:
    """Every stage's training and answers, and the cell's training as all of theirs; whether they are there."""
    lost = len(differences)
    for step, place in zip(stages_of(context, product.cell), places, strict=False):
        training, answers = context.store.read_key(TRAINING, place["training"]), None
        if training is None:
            differences.append(f"{step.title}: its training is not in the store")
            continue
        stage = new_stage(context, step, training[0], place["training"])
        if stage.asked is not None:
            answers = answers_at(context.store, place["answers"])
            if answers is None:
                differences.append(f"{step.title}: its answers are not in the store")
        stage.answers = answers or []
        product.stages.append(stage)
    product.training = merge_records([stage.training for stage in product.stages]) if product.stages else {}
    return len(differences) == lost


def _with_the_rest(recomputed: Run, reported: Run) -> Run:
    """Take over what the stored answers do not tell: costs, settings and words; and all of the cells that failed."""
    known = {(cell.label, cell.seed): cell for cell in reported.cells}
    cells = []
    for cell in recomputed.cells:
        there = known.get((cell.label, cell.seed), cell)
        rest = {name: getattr(there, name) for name in ("cost", "signature", "settings", "summary", "our_reading")}
        cells.append(replace(cell, **rest) if there.status in RECOMPUTED else there)
    return replace(recomputed, cells=tuple(cells))


def _compared(one: Any, other: Any, path: str) -> Iterator[str | None]:
    """A line for each difference, None for each leaf that is equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys(), key=str):
            yield from _compared(one.get(key), other.get(key), f"{path}.{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _compared(left, right, f"{path}[{number}]")
    elif one == other or (one != one and other != other):
        yield None
    else:
        yield f"{path}: reported {_short(one)}, recomputed {_short(other)}"


def _compare_files(run: Run, report: Path, differences: list[str]) -> int:
    """Make the report again, in memory, and compare each file byte for byte."""
    from reports.build import build

    again: dict[Path, bytes] = {}
    build(run, report, again.__setitem__)
    for path, content in sorted(again.items()):
        if not path.is_file() or path.read_bytes() != content:
            differences.append(f"{path} differs from what the stored answers give")
    return len(again)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def shown(differences: Sequence[str]) -> list[str]:
    """The first differences, and how many more there are."""
    more = len(differences) - FEW
    return [*differences[:FEW], *([f"and {more} more"] if more > 0 else [])]
