"""Pictures found by words, in a folder or on the web: what all searches have in common."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

from benchmarks.errors import UserError
from benchmarks.records import KnowledgeItem, Picture
from methods.augmentation.generators.base import ShortQuestion
from methods.augmentation.images.base import CANDIDATES, most_similar, without_doubles
from methods.augmentation.images.clip import Embedder
from methods.augmentation.images.own_picture import OwnImages

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
BATCH = 64
log = logging.getLogger(__name__)


class Search(Protocol):
    """Finds pictures by words. Safe to call from several threads."""

    def find(self, words: str, count: int) -> list[Picture]:
        """At most ``count`` pictures, the best first."""


class ImageSearch:
    """Satisfies ``ImageSource``. What a search does not find, an edit of the item's own picture stands in for.

    Args:
        search: Where pictures come from.
        embedder: Tells how alike they are.
        seed: Of the edits.
        least: Cosine with the item's own picture that another picture of it must reach.
    """

    def __init__(self, search: Search, embedder: Embedder, seed: int, least: float = -1.0) -> None:
        self._search, self._embedder, self._own, self._least = search, embedder, OwnImages(seed), least

    def alike(self, item: KnowledgeItem, count: int) -> list[Picture]:
        """Those of the pictures found for the name or title that are most similar to the item's own."""
        found = without_doubles(self._search.find(item.name, max(CANDIDATES, count)))
        if found:
            vectors = self._embedder.pictures([item.picture, *found])
            found = [found[row] for row in most_similar(vectors[0], vectors[1:], count, self._least)]
        return [*found, *self._own.alike(item, count)[len(found) :]]

    def about(self, item: KnowledgeItem, short: ShortQuestion, number: int) -> Picture | None:
        """The first picture for subject and hypernym. Source: KORE, section 3.2."""
        found = self._search.find(f"{short.subject} {short.hypernym}", 1)
        return found[0] if found else self._own.about(item, short, number)


class FolderSearch:
    """Every picture below a folder, by the cosine of its embedding with that of the words.

    Args:
        folder: Searched through once.
        embedder: The harness gives one that remembers.

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
        """The nearest; equal ones by their path."""
        import numpy as np

        order = np.argsort(-(self._vectors @ self._embedder.words(words)), kind="stable")[:count]
        return [Picture(self._paths[row]) for row in order]


def _decodes(path: Path) -> bool:
    """Whether a file is a picture; one that is not is named and passed over."""
    try:
        Picture(path).pixels()
    except UserError as error:
        log.warning("passed over: %s", error.message)
        return False
    return True
