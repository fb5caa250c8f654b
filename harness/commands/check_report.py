"""Print the outcomes of checks: a table, an explanation of each failure, and a count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from harness.conformance.outcome import CheckOutcome, State
from harness.console import stdout

STYLES: dict[State, str] = {
    "failed": "red",
    "inconclusive": "yellow",
    "expected failure": "cyan",
    "passed": "green",
    "not applicable": "dim",
}
"""From the worst to the best."""


def print_outcomes(results: Mapping[str, Sequence[CheckOutcome]]) -> bool:
    """Print the outcomes of the same checks for each of these names.

    Returns:
        Whether nothing has to be fixed.
    """
    console = stdout()
    console.print(_table(list(results.values())))
    for row, outcomes in results.items():
        for outcome in outcomes:
            if outcome.state in ("failed", "expected failure"):
                console.print(_explain(row, outcome), soft_wrap=True)
        for reason, names in _inconclusive(outcomes).items():
            text = Text(f"\n{row}: {len(names)} checks were inconclusive", style=STYLES["inconclusive"])
            text.append(f"\n  seen: {reason}\n  they: {', '.join(names)}", style="default")
            console.print(text, soft_wrap=True)
    console.print()
    for row, outcomes in results.items():
        console.print(Text(f"{row}: {_count([outcome.state for outcome in outcomes])}"), soft_wrap=True)
    return all(outcome.ok for outcomes in results.values() for outcome in outcomes)


def _table(results: Sequence[Sequence[CheckOutcome]]) -> Table:
    """One line for each check: its results, and why it matters."""
    table = Table("check", "result", "why", box=None, pad_edge=False)
    for outcomes in zip(*results, strict=True):
        states = [outcome.state for outcome in outcomes]
        worst = next(state for state in STYLES if state in states)
        result = worst if len(set(states)) == 1 else _count(states)
        table.add_row(Text(outcomes[0].check.id), Text(result, style=STYLES[worst]), Text(outcomes[0].check.reason))
    return table


def _explain(row: str, outcome: CheckOutcome) -> Text:
    """What was seen, why it matters, and what to do."""
    text = Text(f"\n{row} · {outcome.check.id}: {outcome.state}", style=STYLES[outcome.state])
    text.append(f"\n  seen: {outcome.detail}", style="default")
    if outcome.state == "failed":
        text.append(f"\n  why:  {outcome.check.reason}\n  hint: {outcome.check.hint}")
    return text


def _inconclusive(outcomes: Sequence[CheckOutcome]) -> dict[str, list[str]]:
    """Names of the checks that could not run, by what went wrong before them."""
    names: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.state == "inconclusive":
            names.setdefault(outcome.detail, []).append(outcome.check.id)
    return names


def _count(states: Sequence[State]) -> str:
    counts = Counter(states)
    return ", ".join(f"{counts[state]} {state}" for state in STYLES if counts[state])
