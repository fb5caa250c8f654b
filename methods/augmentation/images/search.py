"""Pictures found by words: an image source over any search, how it chooses among candidates, and a folder search."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from benchmarks.errors import UserError, first_line
from benchmarks.records import KnowledgeItem, Picture
from methods.augmentation.generators.base import ShortQuestion
from methods.augmentation.images.base import OwnImages
from methods.augmentation.images.clip import Embedder

if TYPE_CHECKING:
    import numpy as np

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
BATCH = 64
CANDIDATES = 5
"""Number of pictures to search for a name or title. Source: KORE, section 3.2."""
IDENTICAL = 0.9999
"""Cosine from which a picture counts as the original itself; the paper's "similarity 1" in floating point."""
DUPLICATE = 4.0
"""Mean difference, of 255, up to which two pictures scaled down to 8 x 8 count as the same."""
logger = logging.getLogger(__name__)


class Search(Protocol):
    """Finds pictures by words. Thread-safe."""

    def find(self, words: str, count: int) -> list[Picture]:
        """Find at most ``count`` pictures, the best first."""


class ImageSearch:
    """Satisfies ``ImageSource``. If the search finds too few pictures, edits of the item's own picture fill in.

    Args:
        search: Finds candidates.
        embedder: Measures similarity.
        seed: Seed of the edits.
        min_cosine: Cosine with the item's own picture that a candidate must reach.
    """

    def __init__(self, search: Search, embedder: Embedder, seed: int, min_cosine: float = -1.0) -> None:
        self._search, self._embedder, self._own, self._min_cosine = search, embedder, OwnImages(seed), min_cosine

    def alike(self, item: KnowledgeItem, count: int) -> list[Picture]:
        """The pictures found for the name or title that are most similar to the item's own; without a name, edits."""
        found = drop_duplicates(self._search.find(item.name, max(CANDIDATES, count))) if item.named else []
        if found:
            vectors = self._embedder.pictures([item.picture, *found])
            found = [found[row] for row in most_similar(vectors[0], vectors[1:], count, self._min_cosine)]
        return [*found, *self._own.alike(item, count)[len(found) :]]

    def about(self, item: KnowledgeItem, short: ShortQuestion, number: int) -> Picture | None:
        """The first picture for subject and hypernym. Source: KORE, section 3.2."""
        found = self._search.find(f"{short.subject} {short.hypernym}", 1)
        return found[0] if found else self._own.about(item, short, number)


class FolderSearch:
    """Searches all pictures in a folder by the cosine of their embeddings with that of the words.

    Args:
        folder: Read once, with its subfolders.
        embedder: Embeds pictures and words.

    Raises:
        UserError: The folder holds no picture.
    """

    def __init__(self, folder: Path, embedder: Embedder) -> None:
        import numpy as np

        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        self._embedder = embedder
        self._paths: list[Path] = []
        parts = []
        for start in range(0, len(paths), BATCH):
            good = [path for path in paths[start : start + BATCH] if _decodes(path)]
            if good:
                parts.append(embedder.pictures([Picture(path) for path in good]))
                self._paths += good
        if not parts:
            raise UserError(
                "there is no picture", location=str(folder), hint="give a folder with PNG, JPEG or WebP files"
            )
        self._vectors = np.concatenate(parts)

    def find(self, words: str, count: int) -> list[Picture]:
        """The closest pictures; ties are broken by path."""
        import numpy as np

        order = np.argsort(-(self._vectors @ self._embedder.words(words)), kind="stable")[:count]
        return [Picture(self._paths[row]) for row in order]


def _decodes(path: Path) -> bool:
    """Whether a file is a readable picture; log a warning if not."""
    try:
        Picture(path).pixels()
    except UserError as error:
        logger.warning("skipped: %s", first_line(error))
        return False
    return True


def most_similar(original: np.ndarray, candidates: np.ndarray, count: int, min_cosine: float = -1.0) -> list[int]:
    """Choose the ``count`` candidates most similar to the original by cosine, without identical ones.

    Args:
        original: (d,) embedding, not zero.
        candidates: (n, d) embeddings.
        count: How many to choose, at most.
        min_cosine: Cosine that they must reach; the paper has no such threshold.

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
    return [row for row in order if min_cosine <= cosines[row] < IDENTICAL][:count]


def drop_duplicates(pictures: Sequence[Picture]) -> list[Picture]:
    """Keep the first of all pictures that look almost the same when scaled down."""
    import numpy as np

    kept: list[tuple[Picture, np.ndarray]] = []
    for picture in pictures:
        thumbnail = _thumbnail(picture)
        if all(np.abs(thumbnail - other).mean() > DUPLICATE for _, other in kept):
            kept.append((picture, thumbnail))
    return [picture for picture, _ in kept]


def _thumbnail(picture: Picture) -> np.ndarray:
    """(8, 8, 3), 0 to 255."""
    import numpy as np
    from PIL import Image

    return np.asarray(picture.pixels().resize((8, 8), Image.Resampling.BOX), float)
