"""What is asked of a model, computed, or found on the web is kept by all that made it, and never made twice."""

from __future__ import annotations

import base64
import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from benchmarks.records import Picture
from harness.llm.budget import Budget, estimate_tokens
from harness.storage.store import Store, digest
from methods.augmentation.generators.chat import Chat, Completion, Message

if TYPE_CHECKING:
    import numpy as np

    from methods.augmentation.images.clip import Embedder

CALLS, EMBEDDINGS, FOUND = "calls", "embeddings", "found_pictures"
"""The kinds of entry in the store."""


class KeyLocks:
    """For each key a lock, so that two threads never make the same thing at the same time."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._guard = threading.Lock()

    def of(self, recipe: Mapping[str, Any]) -> threading.Lock:
        """The lock of all that a thing is made from."""
        with self._guard:
            return self._locks.setdefault(digest(recipe), threading.Lock())


class CachedChat:
    """A chat model whose replies are kept by all that made them. Satisfies ``Chat``."""

    def __init__(self, chat: Chat, store: Store, budget: Budget) -> None:
        self._chat, self._store, self._budget, self._turns = chat, store, budget, KeyLocks()
        self.identity = chat.identity

    def complete(self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        """The kept reply, or a new one.

        Raises:
            BudgetSpent: A new one could go beyond the budget.
            Refused: The call failed; nothing is kept of it.
        """
        recipe = call_recipe(self.identity, messages, schema, max_tokens)
        with self._turns.of(recipe):
            kept = self._store.read_json(CALLS, recipe)
            if kept is None:
                aside = self._budget.reserve(estimate_tokens(messages, schema, max_tokens))
                said = None
                try:
                    said = self._chat.complete(messages, schema, max_tokens)
                    kept = self._store.write_json(CALLS, recipe, dataclasses.asdict(said))
                finally:
                    self._budget.settle(aside, said)
        return Completion(**kept)


def call_recipe(
    identity: Mapping[str, Any], messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int
) -> dict[str, Any]:
    """All that makes a reply."""
    said = [dict(message) for message in messages]
    return {"chat": dict(identity), "messages": said, "schema": dict(schema), "max_tokens": max_tokens}


class CachedEmbedder:
    """Embeddings of pictures are computed once. Satisfies ``Embedder``."""

    def __init__(self, embedder: Embedder, store: Store) -> None:
        self._embedder, self._store, self.digest = embedder, store, embedder.digest

    def pictures(self, pictures: Sequence[Picture]) -> np.ndarray:
        """(n, d) float32, each of length 1."""
        import numpy as np

        recipes = [{"clip": self.digest, "picture": picture.sha256} for picture in pictures]
        rows = [self._store.read_json(EMBEDDINGS, recipe) for recipe in recipes]
        missing = [number for number, row in enumerate(rows) if row is None]
        if missing:
            made = self._embedder.pictures([pictures[number] for number in missing])
            for number, vector in zip(missing, made, strict=True):
                rows[number] = self._store.write_json(EMBEDDINGS, recipes[number], [float(each) for each in vector])
        return np.array(rows, dtype=np.float32)

    def words(self, text: str) -> np.ndarray:
        """(d,) float32, of length 1."""
        return self._embedder.words(text)


class CachedDownloads:
    """The bytes of pictures that a search found, by what was searched for."""

    def __init__(self, store: Store) -> None:
        self._store, self._turns = store, KeyLocks()

    def __call__(self, key: Mapping[str, Any], download: Callable[[], list[bytes]]) -> list[bytes]:
        """What is kept under a key, or what ``download`` gives."""
        with self._turns.of(key):
            found = self._store.read_json(FOUND, key)
            if found is None:
                found = self._store.write_json(FOUND, key, [base64.b64encode(each).decode() for each in download()])
        return [base64.b64decode(each) for each in found]
