"""Where pictures come from: one interface for the item's own, a folder and a web search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from benchmarks.records import KnowledgeItem, Picture
from methods.augmentation.generators.base import ShortQuestion

if TYPE_CHECKING:
    import numpy as np

CANDIDATES = 5
"""Pictures searched for a name or title. Source: KORE, section 3.2."""
IDENTICAL = 0.9999
"""Cosine from which a picture counts as the original itself; the paper's "similarity 1" in floating point."""


SAME = 4.0
"""Mean difference, of 255, up to which two pictures look the same when they are seen small."""


class ImageSource(Protocol):
    """Finds pictures for the branches of a tree. Safe to call from several threads."""

    def alike(self, item: KnowledgeItem, count: int) -> list[Picture]:
        """``count`` other pictures of what the item shows."""

    def about(self, item: KnowledgeItem, short: ShortQuestion, number: int) -> Picture | None:
        """A picture of a short question's subject, or None where there is none."""


def most_similar(original: np.ndarray, candidates: np.ndarray, count: int, least: float = -1.0) -> list[int]:
    """The rule of selection: the ``count`` most similar to the original by cosine, the identical left out.

    Args:
        original: (d,) embedding, of any length but 0.
        candidates: (n, d) embeddings.
        count: How many to choose; fewer come where there are fewer.
        least: Cosine that they must reach; the paper has no such floor.

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
    return [row for row in order if least <= cosines[row] < IDENTICAL][:count]


def without_doubles(pictures: Sequence[Picture]) -> list[Picture]:
    """Each look once: pictures that are almost equal when seen small count as one; the first stays."""
    import numpy as np

    kept: list[tuple[Picture, np.ndarray]] = []
    for picture in pictures:
        seen = small(picture)
        if all(np.abs(seen - other).mean() > SAME for _, other in kept):
            kept.append((picture, seen))
    return [picture for picture, _ in kept]


def small(picture: Picture) -> np.ndarray:
    """(8, 8, 3) means of the picture's cells, 0 to 255."""
    import numpy as np
    from PIL import Image

    return np.asarray(picture.pixels().resize((8, 8), Image.Resampling.BOX), float)
