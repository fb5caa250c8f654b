"""A finished run, opened again: its record, and the context in which its cells were computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.errors import UserError
from harness.experiment.cell import TRAINING, Cell
from harness.experiment.context import RunContext, build_context
from harness.experiment.request_file import read_request
from harness.experiment.results import read_entries, read_results
from harness.storage.store import CacheKey
from reports.record import Run


def open_finished(run: Path) -> tuple[Run, RunContext]:
    """Read the record of a run, and build the context from the settings beside it.

    Raises:
        UserError: The folder holds no finished run, its data are missing, or a later comparison in it did not finish:
            then the settings have other rows than the record.
    """
    record = read_results(run)
    context = build_context(read_request(run))
    asked, recorded = ({(cell.label, cell.seed) for cell in cells} for cells in (context.cells, record.cells))
    if asked != recorded:
        rows = ", ".join(f"{label} seed {seed}" for label, seed in sorted(asked ^ recorded))
        raise UserError(
            f"the last comparison in this folder did not finish; settings and results differ in {rows}",
            location=str(run),
            hint="run compare again",
        )
    return record, context


def find_trained(context: RunContext, row: str, seed: int) -> Cell:
    """The cell of a row and seed that the record has."""
    return next(cell for cell in context.cells if (cell.label, cell.seed) == (row, seed))


def stored_training(context: RunContext, run: Path, cell: Cell) -> tuple[Any, CacheKey]:
    """The record of a cell's training and its key, by the run's own list: an older version may have made the key.

    Raises:
        UserError: It is not in the store.
    """
    entry = read_entries(run).get((cell.label, cell.seed), {}).get("training", "")
    stored = context.store.read_by_id(TRAINING, entry) if entry else None
    if stored is None:
        raise UserError("its training is not in the store", location=cell.title, hint="run compare again")
    return stored
