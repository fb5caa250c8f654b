"""What the user sees of an augmentation in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.console import say_all

if TYPE_CHECKING:
    from harness.commands.augment import AugmentResult

SHOWN = 10
"""Faults that are listed; the report has all."""


def show(outcome: AugmentResult) -> None:
    """Counts by branch, overlap, faults and cost. Names are others' text, so nothing in them is markup."""
    console, report = Console(highlight=False), outcome.report
    audit = report["overlap"] or {}
    heads = ("branch", "conversations", "%", "rounds")
    table = Table(*heads, *(("as evaluated", "nearly", "leaked") if audit else ()), box=None)
    for name, row in report["branches"].items():
        cells: list[str | Text] = [Text(name), f"{row['conversations']:,}", str(row["percent"]), f"{row['rounds']:,}"]
        if name in audit:
            cells += [str(audit[name][key]) for key in ("exact", "near", "contained")]
        table.add_row(*cells)
    console.print(table)
    faults = report["faults"]
    lines = [f"{fault['item']}: {fault['branch']}: {fault['reason']}" for fault in faults[:SHOWN]]
    more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
    dropped = [f"dropped {count} x {reason}" for reason, count in report["dropped"].items()]
    say_all(console, *lines, *more, *dropped, _spent(outcome))
    say_all(console, f"{report['conversations']:,} conversations about {report['items']:,} items are in {outcome.out}")


def _spent(outcome: AugmentResult) -> str:
    budget = outcome.budget
    said = f"new calls: {budget.calls:,}, {budget.prompt:,} + {budget.completion:,} tokens"
    said += f", {budget.spent:.2f} in money" if budget.spent else ""
    said += "; the budget is used up" if budget.ran_out else ""
    return f"{said}; {len(outcome.damaged)} damaged entries were made again" if outcome.damaged else said
