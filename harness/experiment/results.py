"""Write and read what is in a run's folder: its record, the ids of its entries in the store, and its report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.errors import UserError
from harness.experiment.outputs import CellOutput, StageOutput
from harness.storage.files import atomic_write, translate_os_errors
from reports.record import Run, from_json, to_json

if TYPE_CHECKING:
    from reports.table import TextTable

RESULTS = "results.json"
PRODUCTS = "products.json"
REPORT = "report"


def write_results(run: Run, outputs: Sequence[CellOutput], out: Path, others: Iterable[Mapping[str, Any]] = ()) -> None:
    """Write the record into the run's folder, and the ids of each cell's entries in the store.

    Args:
        run: The record.
        outputs: Those of its cells,
        out: The folder.
        others: except for these, whose ids ``read_entries`` returned.
    """
    entries = [
        *others,
        *(
            {
                "label": output.cell.label,
                "seed": output.cell.seed,
                "training": output.training_entry,
                "answers": {name: answers.entry_id for name, answers in output.answers.items()},
                **({"engine": output.answering_entry} if output.answering_entry else {}),
                **({"stages": [_stage_entries(stage) for stage in output.stages]} if output.stages else {}),
            }
            for output in outputs
        ),
    ]
    atomic_write(out / PRODUCTS, json.dumps(entries, indent=1) + "\n")
    atomic_write(out / RESULTS, to_json(run))


def _stage_entries(stage: StageOutput) -> dict[str, str]:
    return {"training": stage.training_entry, "answers": stage.answers.entry_id if stage.answers else ""}


def read_entries(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The ids of a cell's training and answers in the store, by the cell's label and seed.

    Raises:
        UserError: The file is missing or damaged.
    """
    path = folder / PRODUCTS
    try:
        return {(str(row["label"]), int(row["seed"])): dict(row) for row in json.loads(path.read_text("utf-8"))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"it cannot be read ({error})", location=str(path), hint="run compare again") from error


def write_report(run: Run, out: Path, paper: Sequence[TextTable] = ()) -> Path:
    """Make tables, plots and the leaderboard; returns the leaderboard's file.

    What an earlier report has and this one does not is removed, such as the plots of rows that are no longer there.
    ``paper`` holds the listings of ``list_beside_paper``, if asked for.

    The report is that of the run as its record holds it: text that a file cannot hold has been replaced there.
    """
    from reports.build import build, read_files

    earlier = read_files(out / REPORT)
    written = build(from_json(to_json(run)), out / REPORT, atomic_write, paper)
    for path in earlier.difference(written):
        with translate_os_errors(path):
            path.unlink(missing_ok=True)
    return written[0]


def read_results(folder: Path) -> Run:
    """Read a run's record.

    Raises:
        UserError: The folder contains no finished run.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise UserError(
            "there is no finished run here", location=str(folder), hint="give the folder that compare wrote to"
        )
    return from_json(path.read_bytes(), where=str(path))
