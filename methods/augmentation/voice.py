"""How an item is spoken of: wordings and edits drawn by a hash of seed, item and slot.

So an item's conversations are the same whatever other items there are and in whatever order they come.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.records import KnowledgeItem


@dataclass(frozen=True)
class TemplateSampler:
    """Draws for one item under one seed."""

    item: KnowledgeItem
    seed: int

    @property
    def name(self) -> str:
        """The item's name or title as it stands inside a sentence."""
        return self.item.name.strip().rstrip(".")

    def say(self, slot: str, wordings: Sequence[str], **parts: str) -> str:
        """One of the wordings, filled in; ``parts`` may replace name and type."""
        return self.draw(slot).choice(wordings).format(**{"name": self.name, "type": self.item.type, **parts})

    def draw(self, slot: str) -> random.Random:
        """A generator of random numbers that belongs to the slot."""
        digest = hashlib.sha256(f"{self.seed}/{self.item.id}/{slot}".encode()).digest()
        return random.Random(int.from_bytes(digest[:8], "big"))
