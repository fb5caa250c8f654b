"""Rows that train nothing and put knowledge into the prompt instead: what they have in common."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import ClassVar

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Picture, Question
from methods.base import InjectableModel, InjectionMethod, MethodSettings, Tensors, VariantFamily, setting

MARKERS = re.compile(rf"(?:{re.escape(IMAGE)}\s*)*")
"""The pictures with which a turn begins."""


@dataclasses.dataclass(frozen=True)
class ContextSettings(MethodSettings):
    """Settings of a row that is not trained; those of training have no effect."""

    data_settings: ClassVar[tuple[str, ...]] = ()
    data: str = setting("", "no training data", source="ours")


class ContextMethod(InjectionMethod, register=False):
    """The untouched base, asked in another way; a subclass says how in ``ask``."""

    Settings = ContextSettings
    variant_families: ClassVar[tuple[VariantFamily, ...]] = ()
    trains = False

    def adapter_parameters(self, layers: Sequence[tuple[int, int]]) -> int:
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


def put_before(question: Question, context: str, pictures: Sequence[Picture] = ()) -> Question:
    """The question with a context before the text of its first turn.

    Args:
        question: To be asked.
        context: The text, with a marker for each of the pictures. If it has none, the question's own first pictures
            stay at the start, where models are trained to see them.
        pictures: Those of the context.
    """
    first, *rest = question.turns
    start = 0 if pictures else len(MARKERS.match(first)[0])  # type: ignore[index]  # it matches an empty text, too
    asked = f"{first[:start]}{context}\n\n{first[start:]}"
    return dataclasses.replace(question, turns=(asked, *rest), pictures=(*pictures, *question.pictures))
