"""How the knowledge is split into parts that are injected in stages, one after the other.

This is EVOKE's sequential setting (arXiv 2505.24449; 4, 8 or 12 phases). Its rule for splitting is not published. Here,
the items of each fine-grained type are shuffled by the cell's seed and dealt out in turn. Parts differ by at most one
item, in total and in each type; every method with the same seed gets the same parts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from benchmarks.errors import UserError
from benchmarks.records import KnowledgeItem
from harness.data.inputs import RunInputs


def split_knowledge(items: Sequence[KnowledgeItem], count: int, seed: int) -> tuple[tuple[KnowledgeItem, ...], ...]:
    """Split the knowledge into parts; within a part the items keep their order.

    Raises:
        UserError: There are fewer items than parts.
    """
    if count > len(items):
        raise UserError(
            f"{len(items)} knowledge items cannot be split into {count} stages",
            location="stages",
            hint="use fewer stages, or raise the limit",
        )
    if count == 1:
        return (tuple(items),)
    draw = random.Random(f"stages {seed}")
    by_type: dict[tuple[str, str], list[int]] = {}
    for index, item in enumerate(items):
        by_type.setdefault((item.group, item.type), []).append(index)
    order: list[int] = []
    for _, members in sorted(by_type.items()):
        draw.shuffle(members)
        order += members
    return tuple(tuple(items[index] for index in sorted(order[part::count])) for part in range(count))


def check_stages(inputs: RunInputs, count: int) -> None:
    """Refuse a number of stages that the data does not allow, before anything is computed.

    Raises:
        UserError: There are too few items, or questions cannot be matched with items.
    """
    if count > 1:
        split_knowledge(inputs.knowledge, count, 0)
        inputs.questions_about(())
