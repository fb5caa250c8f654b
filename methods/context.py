"""Rows that train nothing and put knowledge into the prompt instead: what they have in common."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import ClassVar

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, KnowledgeItem, Picture, Question
from methods.base import (
    InjectableModel,
    InjectionMethod,
    LinearShapes,
    MethodSettings,
    Tensors,
    VariantFamily,
    setting,
)

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
MARKERS = re.compile(rf"(?:{re.escape(IMAGE)}\s*)*")
"""The pictures with which a turn begins."""


@dataclasses.dataclass(frozen=True)
class ContextSettings(MethodSettings):
    """Settings of a row that is not trained; those of training have no effect."""

    data_settings: ClassVar[tuple[str, ...]] = ()
    data: str = setting("", "no training data", source="ours")


@dataclasses.dataclass(frozen=True)
class ItemSettings(ContextSettings):
    """How items are shown."""

    show_pictures: bool = setting(
        True, "show the items' pictures as well, before the question's", source="EVOKE's script for retrieval"
    )


class ContextMethod(InjectionMethod, register=False):
    """The untouched base, asked in another way; a subclass says how in ``ask``."""

    Settings = ContextSettings
    variant_families: ClassVar[tuple[VariantFamily, ...]] = ()
    trains = False

    def adapter_parameters(self, layers: LinearShapes) -> int:
        """None is trained."""
        return 0

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """Nothing is attached."""

    def export(self, model: InjectableModel) -> Tensors:
        """Nothing differs from the base."""
        return {}

    def restore(self, model: InjectableModel, exported: Tensors) -> None:
        """Nothing is loaded.

        Raises:
            UserError: There are tensors, which must be another method's.
        """
        if exported:
            hint = "use them with the method that exported them"
            raise UserError(f"{len(exported)} tensors are of another method", location=self.name, hint=hint)

    def detach(self, model: InjectableModel) -> None:
        """Nothing was attached."""


def put_items_before(question: Question, items: Sequence[KnowledgeItem], *, show_pictures: bool) -> Question:
    """The question with the texts of items before the text of its first turn, and after the pictures.

    With pictures, as EVOKE asks (arXiv 2505.24449, its script for retrieval, with one item): the items' pictures, those
    of the question, "The first image is about an object of {type}. {text}", an empty line, the question.

    Args:
        question: To be asked.
        items: In the order in which they are shown.
        show_pictures: Whether their pictures are shown.
    """
    if not show_pictures:
        return put_before(question, "\n\n".join(item.text for item in items))
    numbers = [ORDINALS[place] if place < len(ORDINALS) else f"{place + 1}th" for place in range(len(items))]
    lines = [
        f"The {number} image is about an object of {item.type}. {item.text}"
        for number, item in zip(numbers, items, strict=True)
    ]
    asked = put_before(question, "\n\n".join(lines))
    first, *rest = asked.turns
    pictures = (*(item.picture for item in items), *question.pictures)
    return dataclasses.replace(asked, turns=(f"{IMAGE}\n" * len(items) + first, *rest), pictures=pictures)


def put_before(question: Question, context: str, pictures: Sequence[Picture] = ()) -> Question:
    """The question with a context before the text of its first turn.

    Args:
        question: To be asked.
        context: The text, with a marker for each of the pictures. If it has none, the question's own first pictures
            stay at the start, where models are trained to see them.
        pictures: Those of the context.
    """
    first, *rest = question.turns
    match = None if pictures else MARKERS.match(first)
    start = match.end() if match else 0
    asked = f"{first[:start]}{context}\n\n{first[start:]}"
    return dataclasses.replace(question, turns=(asked, *rest), pictures=(*pictures, *question.pictures))
