"""General augmentations, against which KORE's is compared: each gives the knowledge as published and changed copies.

Source: KORE, tables 21 to 23 (text and image, knowledge-agnostic and knowledge-aware). How many copies the paper makes
is not stated; here each kind of edit makes one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.records import Conversation, KnowledgeItem, Picture
from methods.augmentation.branches import conversation, published
from methods.augmentation.generators.base import Generator
from methods.augmentation.image_edits import EDITS as IMAGE_EDITS
from methods.augmentation.image_edits import edited_picture
from methods.augmentation.images.base import ImageSource
from methods.augmentation.text_edits import EDITS as TEXT_EDITS
from methods.augmentation.text_edits import edited_text
from methods.augmentation.voice import TemplateSampler

COPIES = 4
"""Rephrasings, and other pictures, of an item."""


def text_agnostic(item: KnowledgeItem, seed: int, translated: Sequence[str] = ()) -> Iterator[Conversation]:
    """Synonyms, insertion, swap, deletion; and the text after translations there and back, where a model made them."""
    yield published(item)
    for kind in TEXT_EDITS:
        text = edited_text(item.text, kind, TemplateSampler(item, seed).draw(f"text/{kind}"))
        yield _copy(item, f"text/{kind}", text, item.picture)
    for number, text in enumerate(translated):
        yield _copy(item, f"text/back-translation/{number}", text, item.picture)


def text_aware(item: KnowledgeItem, generator: Generator) -> Iterator[Conversation]:
    """The text in a generator's other words.

    Raises:
        Refused: The generator gave nothing usable.
    """
    yield published(item)
    for number in range(COPIES):
        yield _copy(item, f"text/rephrased/{number}", generator.rephrased(item, number), item.picture)


def image_agnostic(item: KnowledgeItem, seed: int) -> Iterator[Conversation]:
    """Flip, crop, rotation, colour, noise."""
    yield published(item)
    for kind in IMAGE_EDITS:
        picture = edited_picture(item.picture, kind, TemplateSampler(item, seed).draw(f"image/{kind}"))
        yield _copy(item, f"image/{kind}", item.text, picture)


def image_aware(item: KnowledgeItem, images: ImageSource) -> Iterator[Conversation]:
    """Other pictures of what the item shows."""
    yield published(item)
    for number, picture in enumerate(images.alike(item, COPIES)):
        yield _copy(item, f"image/other/{number}", item.text, picture)


def _copy(item: KnowledgeItem, slot: str, text: str, picture: Picture) -> Conversation:
    return conversation(item, slot.split("/")[0], picture, [(item.prompt, text)], slot)
