"""The interface of image sources, and the offline one: the item's own picture, mildly edited."""

from __future__ import annotations

from typing import Protocol

from benchmarks.records import KnowledgeItem, Picture
from methods.augmentation.generators.base import ShortQuestion
from methods.augmentation.pictures import edit_mildly
from methods.augmentation.templates import TemplateSampler

SLOTS = ("recognition", "caption")


class ImageSource(Protocol):
    """Finds pictures for the branches of a knowledge tree. Thread-safe."""

    def alike(self, item: KnowledgeItem, count: int) -> list[Picture]:
        """Find ``count`` other pictures of what the item shows."""

    def about(self, item: KnowledgeItem, short: ShortQuestion, number: int) -> Picture | None:
        """Find a picture of a short question's subject; None if there is none."""


class OwnImages:
    """Edits that depend on seed, item and slot. Satisfies ``ImageSource``."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def alike(self, item: KnowledgeItem, count: int) -> list[Picture]:
        """``count`` different edits."""
        slots = [*SLOTS, *(f"more/{number}" for number in range(count - len(SLOTS)))]
        return [self.edit_for(item, slot) for slot in slots[:count]]

    def about(self, item: KnowledgeItem, short: ShortQuestion, number: int) -> Picture | None:
        """An edit if the question is about the item itself, for its picture shows nothing else."""
        return self.edit_for(item, f"vqa/{number}") if short.subject.casefold() == item.name.casefold() else None

    def edit_for(self, item: KnowledgeItem, slot: str) -> Picture:
        """The edit for one slot."""
        return edit_mildly(item.picture, TemplateSampler(item, self.seed).rng(f"picture/{slot}"))
