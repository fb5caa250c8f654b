"""The interface of whatever writes the texts of a knowledge tree: a rule, an endpoint or a local model."""

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
    """A short question that names its subject only by its hypernym.

    Args:
        question: Says "the {hypernym} in the image", never the subject.
        answer: A word or a phrase.
        subject: What the picture must show.
        hypernym: What kind of thing the subject is.
    """

    question: str
    answer: str
    subject: str
    hypernym: str


@dataclass(frozen=True)
class GeneratedTexts:
    """What a generator wrote about one item; None for a branch that it refused."""

    dialogue: Sequence[Round] | None
    summary: str | None
    shorts: Sequence[ShortQuestion] | None


NO_TEXTS = GeneratedTexts(None, None, None)
"""No branch at all."""


class GenerationRefused(Exception):
    """A generator gave nothing usable for one branch of one item; the message is the reason."""


class Generator(Protocol):
    """Writes about one item from what the item says and nothing else. Thread-safe.

    Every method may raise ``GenerationRefused``.
    """

    def dialogue(self, item: KnowledgeItem) -> list[Round]:
        """Write rounds that cover the text, without the first, heuristic one."""

    def summary(self, item: KnowledgeItem) -> str:
        """Summarise the text in at most 25 words."""

    def shorts(self, item: KnowledgeItem) -> list[ShortQuestion]:
        """Write at most five short questions."""

    def facts(self, item: KnowledgeItem) -> Sequence[Fact]:
        """List the facts that relations between items are found by."""

    def rephrase(self, item: KnowledgeItem, number: int) -> str:
        """Rephrase the text; each number gives another version."""
