"""The items of a run with several texts that say the same."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.errors import UserError
from methods.augmentation import datasets
from methods.augmentation.knowledge_tree import published_conversation

if TYPE_CHECKING:
    from benchmarks.records import Conversation
    from methods.interfaces import Resources


@dataclass(frozen=True)
class Paraphrased:
    """A conversation, and others that say the same."""

    original: Conversation
    paraphrases: Sequence[Conversation]


def paraphrased_items(data: str, count: int, resources: Resources) -> list[Paraphrased]:
    """Draw items that have at least two conversations, each with all of them.

    Args:
        data: Training data, as the setting of that name.
        count: How many items are drawn; all if there are fewer.
        resources: Of the stage whose items these are.

    Raises:
        UserError: No item has two conversations.
    """
    items = {item.id: item for item in resources.knowledge}
    alike: dict[str, list[Conversation]] = {name: [] for name in items}
    for text in datasets.conversations(data, resources.knowledge, resources.seed, resources.all_items):
        item = datasets.item_of(text.id, items.keys())
        if item:
            alike[item].append(text)
    usable = [name for name, texts in alike.items() if len(texts) > 1]
    if not usable:
        raise UserError(
            f"no item has two conversations in {data}",
            location="setting paraphrases",
            hint="name data with several texts for each item, such as text-aware",
        )
    drawn = random.Random(resources.seed).sample(usable, min(count, len(usable)))
    return [Paraphrased(published_conversation(items[name]), alike[name]) for name in drawn]
