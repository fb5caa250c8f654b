"""What ``check-method`` does: run the contract on a method and its variants, and show what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.conformance.runner import CheckOutcome, State, good, run
from harness.conformance.subject import MethodUnderTest
from methods.registry import method_named

STYLES: dict[State, str] = {
    "failed": "red",
    "unreached": "yellow",
    "known": "cyan",
    "passed": "green",
    "not applicable": "dim",
}
"""From the worst to the least remarkable."""


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
    rows = [name] if variant else list(method.default_rows())
    results = {row: run(MethodUnderTest(method, row.partition(":")[2])) for row in rows}
    console = Console(highlight=False)
    console.print(_table(list(results.values())))
    for row, outcomes in results.items():
        for outcome in outcomes:
            if outcome.state in ("failed", "known"):
                console.print(_explained(row, outcome), soft_wrap=True)
        for reason, names in _unreached(outcomes).items():
            text = Text(f"\n{row}: {len(names)} checks were not reached", style=STYLES["unreached"])
            text.append(f"\n  seen: {reason}\n  they: {', '.join(names)}", style="default")
            console.print(text, soft_wrap=True)
    console.print()
    for row, outcomes in results.items():
        console.print(Text(f"{row}: {_counted([outcome.state for outcome in outcomes])}"), soft_wrap=True)
    return all(good(outcomes) for outcomes in results.values())


def _table(results: Sequence[list[CheckOutcome]]) -> Table:
    """One line for each check: how the rows fared, and why it matters."""
    table = Table("check", "result", "why", box=None, pad_edge=False)
    for outcomes in zip(*results, strict=True):
        states = [outcome.state for outcome in outcomes]
        worst = next(state for state in STYLES if state in states)
        told = worst if len(set(states)) == 1 else _counted(states)
        table.add_row(Text(outcomes[0].check.id), Text(told, style=STYLES[worst]), Text(outcomes[0].check.reason))
    return table


def _explained(row: str, outcome: CheckOutcome) -> Text:
    """What was seen, why it matters, and what to do."""
    text = Text(f"\n{row} · {outcome.check.id}: {outcome.state}", style=STYLES[outcome.state])
    text.append(f"\n  seen: {outcome.seen}", style="default")
    if outcome.state == "failed":
        text.append(f"\n  why:  {outcome.check.reason}\n  hint: {outcome.check.hint}")
    return text


def _unreached(outcomes: Sequence[CheckOutcome]) -> dict[str, list[str]]:
    """The checks that could say nothing, by what went wrong before."""
    found: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.state == "unreached":
            found.setdefault(outcome.seen, []).append(outcome.check.id)
    return found


def _counted(states: Sequence[State]) -> str:
    counts = Counter(states)
    return ", ".join(f"{counts[state]} {state}" for state in STYLES if counts[state])
