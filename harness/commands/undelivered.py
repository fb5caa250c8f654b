"""What a comparison was asked for and could not deliver."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.answer_judge import NO_VERDICTS
from harness.console import print_lines
from reports.marks import UNJUDGED
from reports.record import CellResult, Run


def list_undelivered(run: Run) -> list[str]:
    """One line for each row that has no result and each benchmark that lacks a score, a judge's verdicts or answers.

    A row that diverged has its result: that it diverged.
    """
    finished = [cell for cell in run.cells if cell.status == "ok"]
    failed = [cell for cell in run.cells if cell.status not in ("ok", "diverged")]
    benchmarks = dict.fromkeys(name for cell in finished for name in cell.scores)
    reasons = [f"{_title(cell)}: {cell.status}: {cell.reason}" for cell in failed]
    return [*reasons, *(line for name in benchmarks for line in _benchmark(name, finished))]


def show_undelivered(run: Run) -> None:
    """Print these lines, if there are any."""
    lines = list_undelivered(run)
    print_lines(*([f"not delivered ({len(lines)}):", *(f"  {line}" for line in lines)] if lines else []))


def _benchmark(name: str, cells: list[CellResult]) -> Iterator[str]:
    asked = [cell for cell in cells if name in cell.scores]
    unscored = [cell for cell in asked if UNJUDGED in cell.scores[name].marks]
    if unscored:
        reasons = dict.fromkeys(note for cell in unscored for note in cell.scores[name].notes[-1:])
        yield f"{name}: not scored in {_rows(unscored, asked)}" + "".join(f"; {reason}" for reason in reasons)
    notes = dict.fromkeys(note for cell in asked for note in cell.scores[name].notes if note.startswith(NO_VERDICTS))
    for note in notes:
        yield f"{name}: {_rows([cell for cell in asked if note in cell.scores[name].notes], asked)}: {note}"
    unanswered = [cell for cell in asked if cell.scores[name].count("failed")]
    if unanswered:
        count = sum(cell.scores[name].count("failed") for cell in unanswered)
        yield f"{name}: {count} answers failed in {_rows(unanswered, asked)}"


def _rows(some: list[CellResult], asked: list[CellResult]) -> str:
    return "all rows" if len(some) == len(asked) else ", ".join(map(_title, some))


def _title(cell: CellResult) -> str:
    return cell.label if cell.is_vanilla else f"{cell.label} seed {cell.seed}"
