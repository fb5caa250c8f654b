"""What ``check-method`` does: run the contract on a method and its variants, and show what came of it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.contract.run import Outcome, good, run
from harness.contract.subject import Subject
from methods.catalogue import method_named

STYLES = {"passed": "green", "failed": "red", "unreached": "yellow", "known": "cyan", "not applicable": "dim"}


def check_method(name: str) -> bool:
    """Run all checks on a method and each of its variants, or on the one variant that is named; print the results.

    Returns:
        Whether the contract is kept.

    Raises:
        UserError: There is no method of that name.
    """
    import torch

    torch.set_num_threads(1)  # the tiny model's matrices are not worth a second one
    method, variant = method_named(name)
    rows = [name] if variant else list(method.worth_a_row())
    console = Console(highlight=False)
    results = {row: run(Subject(method, row.partition(":")[2])) for row in rows}
    console.print(_table(results))
    for row, outcomes in results.items():
        for outcome in outcomes:
            if not outcome.good:
                console.print(_explained(row, outcome))
    for row, outcomes in results.items():
        console.print(Text(f"{row}: {_counted(outcomes)}"), soft_wrap=True)
    return all(good(outcomes) for outcomes in results.values())


def _table(results: dict[str, list[Outcome]]) -> Table:
    """One line for each check, one column for each row of a comparison."""
    table = Table("check", *(Text(row) for row in results), "why", box=None, pad_edge=False)
    for outcomes in zip(*results.values(), strict=True):
        states = [Text(outcome.state, style=STYLES[outcome.state]) for outcome in outcomes]
        table.add_row(Text(outcomes[0].check.id), *states, Text(outcomes[0].check.reason))
    return table


def _explained(row: str, outcome: Outcome) -> Text:
    """What was seen, why it matters, and what to do."""
    text = Text(f"\n{row} · {outcome.check.id}: {outcome.state}\n", style="bold")
    text.append(f"  seen: {outcome.seen}\n", style="not bold")
    if outcome.state == "failed":
        text.append(f"  why:  {outcome.check.reason}\n  mend: {outcome.check.mend}", style="not bold")
    return text


def _counted(outcomes: list[Outcome]) -> str:
    states = [outcome.state for outcome in outcomes]
    return ", ".join(f"{states.count(state)} {state}" for state in STYLES if state in states)
