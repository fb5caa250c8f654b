"""General augmentations that KORE's is compared with: the knowledge as published, and changed copies of it.

Source: KORE, tables 21 to 23 (text and image, knowledge-agnostic and knowledge-aware). The paper does not say how many
copies it makes; here each kind of edit makes one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.records import Conversation, KnowledgeItem, Picture
from methods.augmentation.generators.base import Generator
from methods.augmentation.images.base import ImageSource
from methods.augmentation.knowledge_tree import make_conversation, published_conversation
from methods.augmentation.pictures import TRANSFORMS, transform
from methods.augmentation.templates import TemplateSampler
from methods.augmentation.text_edits import EDITS, edit_text

COPIES = 4
"""Number of rephrased texts, and of other pictures, for each item."""


def text_agnostic(item: KnowledgeItem, seed: int, back_translated: Sequence[str] = ()) -> Iterator[Conversation]:
    """Edit words of the text: synonyms, insertion, swap, deletion; then add the back-translated texts, if any."""
    yield published_conversation(item)
    for kind in EDITS:
        text = edit_text(item.text, kind, TemplateSampler(item, seed).rng(f"text/{kind}"))
        yield _copy(item, f"text/{kind}", text, item.picture)
    for number, text in enumerate(back_translated):
        yield _copy(item, f"text/back-translation/{number}", text, item.picture)


def text_aware(item: KnowledgeItem, generator: Generator) -> Iterator[Conversation]:
    """Have a generator rephrase the text.

    Raises:
        GenerationRefused: The generator gave nothing usable.
    """
    yield published_conversation(item)
    for number in range(COPIES):
        yield _copy(item, f"text/rephrased/{number}", generator.rephrase(item, number), item.picture)


def image_agnostic(item: KnowledgeItem, seed: int) -> Iterator[Conversation]:
    """Flip, crop, rotate and recolour the picture, and add noise to it."""
    yield published_conversation(item)
    for kind in TRANSFORMS:
        picture = transform(item.picture, kind, TemplateSampler(item, seed).rng(f"image/{kind}"))
        yield _copy(item, f"image/{kind}", item.text, picture)


def image_aware(item: KnowledgeItem, images: ImageSource) -> Iterator[Conversation]:
    """Replace the picture by other pictures of what it shows."""
    yield published_conversation(item)
    for number, picture in enumerate(images.alike(item, COPIES)):
        yield _copy(item, f"image/other/{number}", item.text, picture)


def _copy(item: KnowledgeItem, slot: str, text: str, picture: Picture) -> Conversation:
    return make_conversation(item, slot.split("/")[0], picture, [(item.prompt, text)], slot)
