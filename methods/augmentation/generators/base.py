"""Who writes the texts of a knowledge tree: one interface for a rule, an endpoint and a local model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.records import KnowledgeItem

Round = tuple[str, str]
"""A question and its answer."""
Fact = tuple[str, str]
"""A field and its value."""


@dataclass(frozen=True)
class ShortQuestion:
    """A short question whose subject is hidden behind what kind of thing it is.

    Args:
        question: Names "the {hypernym} in the image", never the subject.
        answer: A word or a phrase.
        subject: Whom or what the picture must show.
        hypernym: What kind of thing that is.
    """

    question: str
    answer: str
    subject: str
    hypernym: str


class GenerationRefused(Exception):
    """A generator gave nothing that could be used; the message is the reason. Concerns one branch of one item."""


class Generator(Protocol):
    """Writes about one item from what the item says, and from nothing else. Safe to call from several threads."""

    def dialogue(self, item: KnowledgeItem) -> list[Round]:
        """Rounds that cover the text, without the heuristic first one.

        Raises:
            Refused: Nothing usable came of it; so for all others.
        """

    def summary(self, item: KnowledgeItem) -> str:
        """The text in at most 25 words."""

    def shorts(self, item: KnowledgeItem) -> list[ShortQuestion]:
        """At most five short questions."""

    def facts(self, item: KnowledgeItem) -> Sequence[Fact]:
        """What relations between items are found by."""

    def rephrased(self, item: KnowledgeItem, number: int) -> str:
        """The text in other words; another number gives other words."""


@dataclass(frozen=True)
class GeneratedTexts:
    """What a generator wrote about one item. A branch that it refused is None."""

    dialogue: Sequence[Round] | None
    summary: str | None
    shorts: Sequence[ShortQuestion] | None
