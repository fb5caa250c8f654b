"""Recompute every number of a run from its stored answers, and compare (invariant I7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.cell_answers import stored_answers
from harness.cell_training import Record, stored_training
from harness.cells import Cell
from harness.record import read_request
from harness.results import REPORT, CellProduct, compose, read_results
from harness.scoring import score_fresh
from harness.workshop import Workshop, open_workshop
from reports.run import Run

RECOMPUTED = ("ok", "diverged")
"""The statuses of cells that leave something in the store to recompute them from."""
FEW = 20
"""Differences that are shown; the rest is counted."""


@dataclass(frozen=True)
class Findings:
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


def verify(folder: Path) -> Findings:
    """Score the stored answers again, make the record and the tables again, and compare all of it with what is there.

    Raises:
        UserError: The folder holds no finished run.
    """
    reported = read_results(folder)
    workshop = open_workshop(read_request(folder), say=lambda line: None)
    entries = list(workshop.store.entries())
    differences = [f"{kind}/{key[:12]} is damaged" for kind, key in entries if not workshop.store.check(kind, key)]
    failed = {(cell.label, cell.seed) for cell in reported.cells if cell.status not in RECOMPUTED}
    products = [
        CellProduct(cell) if (cell.name, cell.seed) in failed else _product(workshop, cell, differences)
        for cell in workshop.cells
    ]
    scores = score_fresh(products, workshop.sources.asked)
    recomputed = _with_costs(
        compose(products, workshop.sources, workshop.request.resolved, reported.signature), reported
    )
    numbers = 0
    for line in _compared(asdict(reported), asdict(recomputed), "results"):
        if line is None:
            numbers += 1
        else:
            differences.append(line)
    files = _compare_files(recomputed, folder / REPORT, differences)
    answers = sum(len(found) for product in products for found in product.answers.values())
    return Findings(len(entries), answers, scores, numbers, files, tuple(differences))


def _product(workshop: Workshop, cell: Cell, differences: list[str]) -> CellProduct:
    """A cell's product from the store alone."""
    product = CellProduct(cell)
    record: Record | None = {"status": "ok", "adapter": ""}
    if cell.settings is not None:
        record = stored_training(workshop, cell)
    if record is None:
        differences.append(f"{cell.title}: its training is not in the store, or was made by other code or versions")
        return product
    product.training = record if cell.settings else {}
    product.status, product.reason = record["status"], record.get("reason", "")
    if record["status"] == "ok":
        found = stored_answers(workshop, cell, record["adapter"])
        missing = [asked.name for asked in workshop.sources.asked if asked.name not in found]
        if missing:
            differences.append(f"{cell.title}: no stored answers to {', '.join(missing)}")
        product.answers = {name: one.answers for name, one in found.items()}
    return product


def _with_costs(recomputed: Run, reported: Run) -> Run:
    """Take over what the store does not tell: the cells that failed, and what the others took of time and memory."""
    known = {(cell.label, cell.seed): cell for cell in reported.cells}
    cells = []
    for cell in recomputed.cells:
        there = known.get((cell.label, cell.seed))
        failed = there is not None and there.status not in RECOMPUTED
        cells.append(
            replace(cell, cost=there.cost, signature=there.signature) if there and not failed else there or cell
        )
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
