"""Store the embeddings of pictures and the pictures that a search found, so that none is computed or loaded twice."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.records import Picture
from harness.llm.cache import KeyLocks
from harness.storage.store import Store

if TYPE_CHECKING:
    from methods.augmentation.images.clip import Embedder

EMBEDDINGS = "embeddings"
FOUND_PICTURES = "found_pictures"


class CachedEmbedder:
    """Computes each picture's embedding once. Satisfies ``Embedder``."""

    def __init__(self, embedder: Embedder, store: Store) -> None:
        self._embedder, self._store, self.digest = embedder, store, embedder.digest

    def pictures(self, pictures: Sequence[Picture]) -> np.ndarray:
        """(n, d) float32, each row of length 1."""
        keys = [{"clip": self.digest, "picture": picture.sha256} for picture in pictures]
        rows = [self._store.read_json(EMBEDDINGS, key) for key in keys]
        missing = [number for number, row in enumerate(rows) if row is None]
        if missing:
            vectors = self._embedder.pictures([pictures[number] for number in missing])
            for number, vector in zip(missing, vectors, strict=True):
                rows[number] = self._store.write_json(EMBEDDINGS, keys[number], [float(value) for value in vector])
        return np.array(rows, dtype=np.float32)

    def words(self, text: str) -> np.ndarray:
        """(d,) float32, of length 1."""
        return self._embedder.words(text)


class CachedDownloads:
    """The bytes of the pictures that a search found, by what was searched for."""

    def __init__(self, store: Store) -> None:
        self._store, self._locks = store, KeyLocks()

    def __call__(self, key: Mapping[str, Any], download: Callable[[], list[bytes]]) -> list[bytes]:
        """What is stored under a key, or the result of ``download``."""
        with self._locks.lock(key):
            found = self._store.read_json(FOUND_PICTURES, key)
            if found is None:
                contents = [base64.b64encode(content).decode() for content in download()]
                found = self._store.write_json(FOUND_PICTURES, key, contents)
        return [base64.b64decode(content) for content in found]
