"""Reports made again from stored runs: one or several, alone or beside the paper; and what differs between two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import UserError
from harness.console import print_lines, stdout
from harness.experiment.results import read_results, write_report

if TYPE_CHECKING:
    from reports.table import TextTable


@dataclass(frozen=True)
class ReportResult:
    """The files and tables of a report."""

    page: Path
    """The leaderboard."""
    listings: tuple[TextTable, ...] = ()
    """Our numbers beside the paper's, if asked for."""


def report(folders: Sequence[Path], out: Path | None, against: str | None) -> ReportResult:
    """Make tables, plots and the leaderboard from the records of finished runs, without any model.

    Args:
        folders: Of the runs; several are merged.
        out: Where the folder ``report`` is written; by default into the run itself.
        against: "paper" for its printed numbers beside ours.

    Raises:
        UserError: A folder holds no finished run, or the runs cannot be compared.
    """
    from reports.build import PAPER, list_beside_paper
    from reports.merge import merge

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
    run = merge([(folder.name or str(folder), read_results(folder)) for folder in folders])
    target = out or folders[0]
    listings = list_beside_paper(run) if against else ()
    return ReportResult(write_report(run, target, listings), listings)


def diff(old: Path, new: Path) -> tuple[TextTable, ...]:
    """Compare the records of two finished runs: how their settings differ, and what that changed in the scores.

    Raises:
        UserError: A folder holds no finished run.
    """
    from reports.tables.run_diff import diff_runs

    return diff_runs(read_results(old), read_results(new))


def show_report(result: ReportResult) -> None:
    """Print our numbers beside the paper's, if asked for, and the path of the leaderboard."""
    show_listings(result.listings)
    print_lines(f"leaderboard: {result.page}")


def show_listings(listings: Sequence[TextTable]) -> None:
    """Print tables of text, one after the other."""
    from reports.formats import terminal

    for listing in listings:
        terminal.show_listing(listing, stdout())
