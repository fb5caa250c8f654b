"""The offline source: the item's own picture, mildly edited."""

from __future__ import annotations

from benchmarks.records import KnowledgeItem, Picture
from methods.augmentation.generators.base import ShortQuestion
from methods.augmentation.pictures import edited
from methods.augmentation.voice import TemplateSampler

SLOTS = ("recognition", "caption")


class OwnImages:
    """Edits drawn by a hash of seed, item and slot. Satisfies ``ImageSource``."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def alike(self, item: KnowledgeItem, count: int) -> list[Picture]:
        """As many different edits."""
        slots = [*SLOTS, *(f"more/{number}" for number in range(count - len(SLOTS)))]
        return [self.slot(item, slot) for slot in slots[:count]]

    def about(self, item: KnowledgeItem, short: ShortQuestion, number: int) -> Picture | None:
        """An edit, if the question is about the item itself: nothing else is in its picture."""
        return self.slot(item, f"vqa/{number}") if short.subject.casefold() == item.name.casefold() else None

    def slot(self, item: KnowledgeItem, slot: str) -> Picture:
        """The edit of one slot."""
        return edited(item.picture, TemplateSampler(item, self.seed).draw(f"picture/{slot}"))
