"""What a run's files hold, what of it is used, and why the rest is left out: no row disappears without a word.

A reader refuses each row that it cannot use, so that rows are left out only for the reasons here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.retention import Retention
from harness.data.inputs import RunInputs

LIMIT = "beyond the limit"


@dataclass(frozen=True)
class RowAccount:
    """The rows of one file.

    Args:
        source: What they are, such as the name of a benchmark.
        read: How many the file has.
        used: How many the run uses.
        left_out: The others by the reason why.
    """

    source: str
    read: int
    used: int
    left_out: Mapping[str, int]

    def __str__(self) -> str:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        rest = f"; left out: {reasons}" if reasons else ""
        return f"{self.source}: {self.read:,} rows read, {self.used:,} used{rest}"


def row_accounts(inputs: RunInputs, limit: int | None) -> tuple[RowAccount, ...]:
    """The accounts of the knowledge and of each benchmark.

    Args:
        inputs: What the run reads.
        limit: Its limit, if it has one.

    Raises:
        ValueError: Rows are missing from an account.
    """
    found = [_account("knowledge", len(inputs.all_items), len(inputs.knowledge), {})]
    for task in inputs.tasks:
        left_out = task.benchmark.rows_left_out() if isinstance(task.benchmark, Retention) else {}
        questions = len(task.questions if limit is None else task.benchmark.questions())
        found.append(_account(task.name, questions + sum(left_out.values()), len(task.questions), left_out))
    return tuple(found)


def account_notes(inputs: RunInputs, limit: int | None) -> tuple[str, ...]:
    """A sentence for each file with rows that are left out for another reason than the limit, for below the tables."""
    accounts = row_accounts(inputs, limit)
    return tuple(f"{account}." for account in accounts if account.left_out.keys() - {LIMIT})


def _account(source: str, read: int, used: int, left_out: Mapping[str, int]) -> RowAccount:
    beyond = read - used - sum(left_out.values())
    if beyond < 0:
        raise ValueError(f"{source}: {used} of {read} rows are used")
    return RowAccount(source, read, used, {**left_out, **({LIMIT: beyond} if beyond else {})})
