"""Store the replies of chat models under everything that produced them, so that no call is made twice."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

from harness.llm.budget import Budget, estimate_tokens
from harness.storage.digests import digest
from harness.storage.store import Store
from methods.augmentation.generators.chat import Chat, Completion, Message

CALLS = "calls"


class KeyLocks:
    """One lock for each key, so that two threads never compute the same entry at the same time."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        self._guard = threading.Lock()

    def lock(self, key: Mapping[str, Any]) -> threading.Lock:
        """The lock of a key."""
        with self._guard:
            return self._locks.setdefault(digest(key), threading.Lock())


class CachedChat:
    """A chat model whose replies are stored. Satisfies ``Chat``."""

    def __init__(self, chat: Chat, store: Store, budget: Budget) -> None:
        self._chat, self._store, self._budget, self._locks = chat, store, budget, KeyLocks()
        self.identity = chat.identity

    def complete(self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        """The stored reply, or a new one.

        Raises:
            BudgetSpent: A new one could exceed the budget.
            GenerationRefused: The call failed; nothing is stored.
        """
        key = call_key(self.identity, messages, schema, max_tokens)
        with self._locks.lock(key):
            reply = self._store.read_json(CALLS, key)
            if reply is None:
                reserved = self._budget.reserve(estimate_tokens(messages, schema, max_tokens))
                completion = None
                try:
                    completion = self._chat.complete(messages, schema, max_tokens)
                    reply = self._store.write_json(CALLS, key, dataclasses.asdict(completion))
                finally:
                    self._budget.settle(reserved, completion)
        return Completion(**reply)


def call_key(
    identity: Mapping[str, Any], messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int
) -> dict[str, Any]:
    """Everything that a reply depends on."""
    return {
        "chat": dict(identity),
        "messages": [dict(message) for message in messages],
        "schema": dict(schema),
        "max_tokens": max_tokens,
    }
