"""Where pictures come from: one interface for the item's own, a folder and a web search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from benchmarks.records import KnowledgeItem, Picture
from methods.augmentation.generators.base import Short

if TYPE_CHECKING:
    import numpy as np

CANDIDATES = 5
"""Pictures searched for a name or title. Source: KORE, section 3.2."""
IDENTICAL = 0.9999
"""Cosine from which a picture counts as the original itself; the paper's "similarity 1" in floating point."""


class ImageSource(Protocol):
    """Finds pictures for the branches of a tree. Safe to call from several threads."""

    def alike(self, item: KnowledgeItem, count: int) -> list[Picture]:
        """``count`` other pictures of what the item shows."""

    def about(self, item: KnowledgeItem, short: Short, number: int) -> Picture | None:
        """A picture of a short question's subject, or None where there is none."""


def most_similar(original: np.ndarray, candidates: np.ndarray, count: int) -> list[int]:
    """The rule of selection: the ``count`` most similar to the original by cosine, the identical left out.

    Args:
        original: (d,) embedding, of any length but 0.
        candidates: (n, d) embeddings.
        count: How many to choose; fewer come where there are fewer.

    Returns:
        Rows of ``candidates``, the most similar first.

    Source: KORE, section 3.2.
    """
    import numpy as np

    if not len(candidates):
        return []
    lengths = np.linalg.norm(candidates, axis=1) * np.linalg.norm(original)
    cosines = candidates @ original / np.where(lengths > 0, lengths, 1)
    order = sorted(range(len(candidates)), key=lambda row: (-cosines[row], row))
    return [row for row in order if cosines[row] < IDENTICAL][:count]


def without_doubles(pictures: Sequence[Picture]) -> list[Picture]:
    """Each look once: pictures that are equal, or almost so when seen small, count as one; the first stays."""
    seen: set[str | int] = set()
    kept = []
    for picture in pictures:
        marks: set[str | int] = {picture.sha256, look(picture)}
        if not marks & seen:
            kept.append(picture)
        seen |= marks
    return kept


def look(picture: Picture) -> int:
    """The difference hash: 64 bits, each says whether the picture gets brighter from one of 9 x 8 cells to the next."""
    from PIL import Image

    grey = picture.pixels().convert("L").resize((9, 8), Image.Resampling.BOX).tobytes()
    bits = (grey[row * 9 + column] < grey[row * 9 + column + 1] for row in range(8) for column in range(8))
    return sum(bit << place for place, bit in enumerate(bits))
