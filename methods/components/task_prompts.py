"""The tasks of an injection, and prompts of each. Does not import torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from benchmarks.errors import UserError
from benchmarks.records import Conversation, KnowledgeItem
from methods.augmentation.datasets import items_of

Tasks = Literal["group", "branch"]
"""What a task is: a group of the items, such as news, or a branch of the training data, such as dialogue."""


def prompts_by_task(
    tasks: Tasks, data: str, samples: Sequence[Conversation], knowledge: Sequence[KnowledgeItem], count: int
) -> dict[str, list[Conversation]]:
    """At most ``count`` evenly spaced conversations of each task, by its name, in the order of the names.

    Args:
        tasks: What a task is.
        data: The value of the setting that the conversations come from.
        samples: The conversations.
        knowledge: The items that they can be about.
        count: Maximum number for each task.

    Raises:
        UserError: Tasks are groups of items, and no conversation is about an item.
    """
    kinds = {sample.id: sample.branch for sample in samples}
    if tasks == "group":
        kinds = {name: item.group for name, item in items_of(data, samples, knowledge).items()}
    if not kinds:
        raise UserError(
            f"none of the {len(samples):,} conversations is about one of the items, whose groups are the tasks",
            location=f"setting data ({data})",
            hint="name the item of each in a column item, or choose tasks=branch",
        )
    found = {task: [sample for sample in samples if kinds.get(sample.id) == task] for task in sorted({*kinds.values()})}
    return {task: chosen[:: max(1, len(chosen) // count)][:count] for task, chosen in found.items()}


def check_task_count(tasks: Sequence[str], rank: int) -> None:
    """Refuse more tasks than rows, since each gets at least one.

    Raises:
        UserError: It names the tasks.
    """
    if len(tasks) > rank:
        raise UserError(
            f"{len(tasks)} tasks ({', '.join(tasks)}) do not fit into {rank} rows",
            location="setting rank",
            hint=f"choose at least {len(tasks)}",
        )
