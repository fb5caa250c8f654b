"""What a run's files hold, what of it is used, and why the rest is left out: no row disappears without a word.

A reader refuses each row that it cannot use, so that rows are left out only for the reasons here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.editing import Editing
from benchmarks.records import Question
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
    """For below the tables: files with rows left out for another reason than the limit, and ``unmatched_questions``."""
    accounts = row_accounts(inputs, limit)
    left_out = (f"{account}." for account in accounts if account.left_out.keys() - {LIMIT})
    return (*left_out, *unmatched_questions(inputs))


def unmatched_questions(inputs: RunInputs) -> tuple[str, ...]:
    """A sentence for each benchmark about the new knowledge of which some questions, not all, belong to no item.

    A question belongs to an item if its id is the item's, or begins with it and a slash. Where no id is an item's, or
    where questions and items correspond row by row, the ids say nothing; numbers may match by chance.
    """
    known = set(inputs.item_ids)
    asked = {task.name: task.benchmark.questions() for task in inputs.tasks if task.asks_new_knowledge}
    known.update(*({each.id for each in questions} for questions in asked.values() if len(questions) == len(known)))
    asked |= {task.name: task.benchmark.questions() for task in inputs.tasks if isinstance(task.benchmark, Editing)}
    return tuple(filter(None, (_unmatched(name, questions, known) for name, questions in asked.items())))


def _unmatched(name: str, questions: Sequence[Question], known: Collection[str]) -> str:
    strangers = [question.id for question in questions if not _belongs(question.id, known)]
    if not 0 < len(strangers) < len(questions):
        return ""
    return (
        f"{name}: {len(strangers):,} of {len(questions):,} questions have the id of no item of the knowledge, such as "
        f"{strangers[0]!r}. If the ids name items, nothing teaches their answers."
    )


def _belongs(question: str, known: Collection[str]) -> bool:
    parts = question.split("/")
    return any("/".join(parts[:end]) in known for end in range(1, len(parts) + 1))


def _account(source: str, read: int, used: int, left_out: Mapping[str, int]) -> RowAccount:
    beyond = read - used - sum(left_out.values())
    if beyond < 0:
        raise ValueError(f"{source}: {used} of {read} rows are used")
    return RowAccount(source, read, used, {**left_out, **({LIMIT: beyond} if beyond else {})})
