"""Reports made again from stored runs: one or several, alone or beside the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import UserError
from harness.experiment.results import REPORT, read_results, write_report
from harness.storage.store import atomic_write

if TYPE_CHECKING:
    from reports.model import TextTable
    from reports.record import Run

PAPER = "paper"


@dataclass(frozen=True)
class ReportResult:
    """What a report left behind."""

    page: Path
    """The leaderboard."""
    listings: tuple[TextTable, ...] = ()
    """Our numbers beside others', if asked for."""


def report(folders: Sequence[Path], out: Path | None, against: str | None) -> ReportResult:
    """Make tables, plots and the leaderboard from the records of finished runs, without any model.

    Args:
        folders: Of the runs; several are merged.
        out: Where the folder ``report`` is written; by default into the run itself.
        against: "paper" for its printed numbers beside ours.

    Raises:
        UserError: A folder holds no finished run, or the runs hold what cannot be compared.
    """
    if against not in (None, PAPER):
        raise UserError(
            "there is nothing of this name to compare with",
            location=f"--against {against}",
            hint="write --against paper",
        )
    if len(folders) > 1 and out is None:
        raise UserError(
            "a report of several runs belongs to none of them", location="--out", hint="name a folder with --out"
        )
    from reports.merge import merge

    run = merge([(folder.name or str(folder), read_results(folder)) for folder in folders])
    place = out or folders[0]
    page = write_report(run, place)
    return ReportResult(page, _beside(run, place) if against else ())


def _beside(run: Run, out: Path) -> tuple[TextTable, ...]:
    from reports.build import write_listings
    from reports.statistics.analysis import analyse
    from reports.tables.paper_comparison import compare_with_paper

    listings = compare_with_paper(analyse(run))
    write_listings(listings, out / REPORT / PAPER, atomic_write)
    return listings
