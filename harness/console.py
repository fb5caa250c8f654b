"""What the user sees in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.commands.compare import CompareResult
    from harness.commands.doctor import Diagnostic
    from harness.commands.plan import Plan
    from harness.commands.report import ReportResult
    from harness.commands.tune import TuningResult
    from harness.commands.verify import VerificationReport
    from reports.model import TextTable

STYLES = {"ok": "green", "warning": "yellow", "missing": "red"}


def log(line: str) -> None:
    """One line about what is going on, on stderr. It may hold others' text, so nothing in it is markup."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(line))


def show_checks(checks: Sequence[Diagnostic]) -> None:
    """The doctor's report."""
    table = Table("what", "state", "found", "hint", box=None, pad_edge=False)
    for check in checks:
        state = Text(check.state, style=STYLES[check.state])
        table.add_row(Text(check.what), state, Text(check.found), Text(check.hint))
    _console().print(table)


def show_plan(plan: Plan) -> None:
    """The cells, what is stored, and the forecast."""
    table = Table("cell", "trained", "answered", "scored", "time", "disk", box=None, pad_edge=False)
    for cell in plan.cells:
        trained = "-" if cell.trained is None else "yes" if cell.trained else "no"
        counts = [f"{number} of {cell.asked}" for number in (cell.answered, cell.scored)]
        table.add_row(Text(cell.title), trained, *counts, _duration(cell.seconds), _size(cell.bytes))
    console = _console()
    console.print(table)
    say_all(
        console,
        f"{plan.questions} questions for each cell",
        f"still to do: {_duration(plan.seconds)}, {_size(plan.bytes)} on the disk; stored: {_size(plan.stored_bytes)}",
        f"forecast from {plan.basis}",
    )


def show_outcome(outcome: CompareResult) -> None:
    """The main table, and where everything lies."""
    from reports.formats import terminal
    from reports.statistics.analysis import analyse
    from reports.tables.tables import main_table

    console = _console()
    terminal.show(main_table(analyse(outcome.run)), console)
    failed = [product for product in outcome.products if product.status != "ok"]
    say_all(console, "", *(f"{product.cell.title}: {product.status}: {product.reason}" for product in failed))
    show_report(outcome.page)


def show_report(page: Path) -> None:
    """Where the leaderboard is."""
    say_all(_console(), f"leaderboard: {page}")


def show_reported(reported: ReportResult) -> None:
    """Where the leaderboard is, and our numbers beside others' if asked for."""
    show_listings(reported.listings)
    show_report(reported.page)


def show_listings(listings: Sequence[TextTable]) -> None:
    """Listings of text, one after the other."""
    from reports.formats import terminal

    for one in listings:
        terminal.show_listing(one, _console())


def show_findings(findings: VerificationReport) -> None:
    """What ``verify`` looked at, and what it found."""
    from harness.commands.verify import shown

    console = _console()
    say_all(
        console,
        f"{findings.entries} stored entries, {findings.answers} answers, {findings.scores} scores computed again, "
        f"{findings.numbers} numbers and {findings.files} files of the report compared",
        *shown(findings.differences),
        f"{len(findings.differences)} differences" if findings.differences else "no difference",
    )


def show_tuning(tuning: TuningResult) -> None:
    """What was tried for each method, what was chosen, and the part of a preset that says so."""
    table = Table(
        "method", "settings", "K.A on the tuning slice", "old lessons kept", "HARS", "", box=None, pad_edge=False
    )
    for trial in tuning.trials:
        numbers = ["-" if value is None else f"{value:.2f}" for value in (trial.score, trial.kept, trial.hars)]
        table.add_row(Text(trial.method), Text(trial.shown), *numbers, Text("chosen" if trial.chosen else trial.reason))
    console = _console()
    console.print(table)
    say_all(console, *tuning.warnings, "", tuning.text, f"written to {tuning.path}; copy its `methods` into a preset")


def say_all(console: Console, *lines: str) -> None:
    """Lines of plain text on stdout."""
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _console() -> Console:
    return Console(highlight=False)
