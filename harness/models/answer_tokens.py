"""Which tokens belong to the answers in a text that a processor has encoded together with its pictures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from harness.models.prefix_sharing import common_length

OTHER_TEXTS = ("0", "x", "?")
"""Texts to put in the place of an answer; any answer begins with another character than two of them."""


def first_tokens(
    text: str, answers: Sequence[tuple[int, int]], ids: Sequence[int], encode: Callable[[str], list[int]]
) -> list[int]:
    """For each answer the index of the first token that contains a part of it.

    A processor replaces pictures by tokens, and a tokenizer merges characters across the borders of an answer, so the
    place is not found by the answer's own tokens: with another text in its place, the ids are the same up to there.

    Args:
        text: The dialogue.
        answers: First character and the one after the last of each answer.
        ids: The encoded dialogue.
        encode: Encodes such a text with the same pictures.
    """
    firsts = []
    for start, end in answers:
        others = [other for other in OTHER_TEXTS if not text.startswith(other, start)][:2]
        firsts.append(max(common_length(ids, encode(text[:start] + other + text[end:])) for other in others))
    return firsts


class ImagesOnce:
    """An image processor that prepares the same pictures once, however often it is called with them.

    Args:
        processor: The image processor; each of its calls must be with the same pictures.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._results: dict[str, Any] = {}

    def __call__(self, images: Any, *args: Any, **options: Any) -> Any:
        """What the image processor makes of the pictures; the caller may change it."""
        key = repr((args, sorted(options.items(), key=lambda item: item[0])))
        if key not in self._results:
            self._results[key] = self._processor(images, *args, **options)
        result = copy.copy(self._results[key])
        result.data = dict(result.data)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)
