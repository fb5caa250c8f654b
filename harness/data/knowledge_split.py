"""Which part of the knowledge each stage injects: a data set of a task sequence, or a random part.

Random parts are EVOKE's sequential setting (arXiv 2505.24449; 4, 8 or 12 phases). Its rule for splitting is not
published. Here, the items of each fine-grained type are shuffled by the cell's seed and dealt out in turn. Parts differ
by at most one item, in total and in each type; every method with the same seed gets the same parts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from benchmarks.errors import UserError
from benchmarks.records import KnowledgeItem
from harness.data.inputs import RunInputs
from harness.storage.digests import digest, knowledge_digest


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


def stage_parts(inputs: RunInputs, count: int, seed: int) -> tuple[tuple[str, tuple[KnowledgeItem, ...]], ...]:
    """The name and the knowledge of each stage: those of a task sequence, or parts without a name.

    Raises:
        UserError: There are fewer items than parts.
    """
    if inputs.sequence:
        return tuple((stage.name, stage.knowledge) for stage in inputs.sequence)
    return tuple(("", part) for part in split_knowledge(inputs.knowledge, count, seed))


def stages_signature(inputs: RunInputs, count: int) -> str:
    """The number of stages and, of a task sequence, a digest of its content; empty for a single stage."""
    if count == 1:
        return ""
    if not inputs.sequence:
        return str(count)
    content = [knowledge_digest(stage.knowledge) for stage in inputs.sequence]
    return f"{count} given, data {digest([content, inputs.adaptation_task.fingerprint])[:12]}"


def check_stages(inputs: RunInputs, count: int) -> None:
    """Refuse a number of stages that the data does not allow, before anything is computed.

    Raises:
        UserError: There are too few items, or questions cannot be matched with items.
    """
    if count > 1:
        stage_parts(inputs, count, 0)
        inputs.questions_about(())
