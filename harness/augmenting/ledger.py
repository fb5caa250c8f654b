"""Calls to a chat model: each made once and kept, within a budget that is forecast before and held during."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.errors import UserError
from harness.store import Store
from methods.augmentation.generators.base import Refused
from methods.augmentation.generators.chat import Chat, Completion, Message

CALLS = "calls"
"""The kind of entry that a call leaves in the store."""
CHARACTERS_PER_TOKEN = 3.5
"""For forecasts; what was really used is as the model's answer says."""
EXPECTED = 0.3
"""Of a reply's limit that it is expected to use."""


@dataclass(frozen=True)
class Price:
    """Money for a million tokens."""

    prompt: float = 0.0
    completion: float = 0.0

    def of(self, prompt: float, completion: float) -> float:
        """What so many tokens cost."""
        return (prompt * self.prompt + completion * self.completion) / 1e6


class BudgetSpent(Refused):
    """The next call could go beyond the budget."""


class Budget:
    """What one command may spend. Safe to use from several threads.

    Args:
        tokens: At most, prompts and replies together; None for no limit.
        money: At most; None for no limit.
        price: Of a token.
    """

    def __init__(self, tokens: int | None = None, money: float | None = None, price: Price | None = None) -> None:
        self.tokens, self.money, self.price = tokens, money, price or Price()
        self.calls, self.prompt, self.completion = 0, 0, 0
        self.ran_out = False
        self._reserved = (0.0, 0.0)
        self._lock = threading.Lock()

    @property
    def spent(self) -> float:
        """Money."""
        return self.price.of(self.prompt, self.completion)

    def reserve(self, prompt: int, completion: int) -> None:
        """Set the most that a call can use aside.

        Raises:
            BudgetSpent: Not so much is left.
        """
        with self._lock:
            most = (prompt + self._reserved[0] + self.prompt, completion + self._reserved[1] + self.completion)
            if self.exceeded_by(*most):
                self.ran_out = True
                raise BudgetSpent("the budget is used up; the same command with a larger one goes on from here")
            self._reserved = (self._reserved[0] + prompt, self._reserved[1] + completion)

    def settle(self, reserved: tuple[int, int], used: Completion | None) -> None:
        """Replace what was set aside by what was used; None where the call failed."""
        with self._lock:
            self._reserved = (self._reserved[0] - reserved[0], self._reserved[1] - reserved[1])
            if used is not None:
                self.calls += 1
                self.prompt += used.prompt_tokens
                self.completion += used.completion_tokens

    def exceeded_by(self, prompt: float, completion: float) -> bool:
        """Whether so many tokens are more than it allows."""
        over_tokens = self.tokens is not None and prompt + completion > self.tokens
        return over_tokens or (self.money is not None and self.price.of(prompt, completion) > self.money)


class KeptChat:
    """A chat model whose replies are kept by all that made them. Satisfies ``Chat``."""

    def __init__(self, chat: Chat, store: Store, budget: Budget) -> None:
        self._chat, self._store, self._budget = chat, store, budget
        self.identity = chat.identity

    def complete(self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        """The kept reply, or a new one.

        Raises:
            BudgetSpent: A new one could go beyond the budget.
            Refused: The call failed; nothing is kept of it.
        """
        recipe = call_recipe(self.identity, messages, schema, max_tokens)
        kept = self._store.read_json(CALLS, recipe)
        if kept is None:
            reserved = (tokens_of(messages), max_tokens)
            self._budget.reserve(*reserved)
            said = None
            try:
                said = self._chat.complete(messages, schema, max_tokens)
                kept = self._store.write_json(CALLS, recipe, dataclasses.asdict(said))
            finally:
                self._budget.settle(reserved, said)
        return Completion(**kept)


@dataclass
class Forecast:
    """What is still to be spent."""

    calls: int = 0
    prompt: float = 0.0
    completion: float = 0.0

    def check(self, budget: Budget) -> None:
        """Refuse to begin what the budget cannot bear.

        Raises:
            UserError: It would be exceeded.
        """
        if budget.exceeded_by(self.prompt, self.completion):
            cost = budget.price.of(self.prompt, self.completion)
            raise UserError(
                f"the forecast is {self.calls:,} calls with {self.prompt + self.completion:,.0f} tokens"
                + (f", {cost:.2f} in money" if cost else ""),
                where="--budget-tokens, --budget-money",
                mend="raise the budget, or augment fewer items with --limit",
            )


class DryChat:
    """Knows what is kept and counts the rest, calling nobody. Satisfies ``Chat``."""

    def __init__(self, chat: Chat, store: Store) -> None:
        self.identity, self._store, self.forecast = chat.identity, store, Forecast()

    def complete(self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        """The kept reply.

        Raises:
            Refused: There is none; it is counted, with the second call that some tasks need.
        """
        kept = self._store.read_json(CALLS, call_recipe(self.identity, messages, schema, max_tokens))
        if kept is not None:
            return Completion(**kept)
        calls = 2 if schema.get("title") in ("Questions", "Translation") else 1
        self.forecast.calls += calls
        self.forecast.prompt += calls * tokens_of(messages)
        self.forecast.completion += calls * EXPECTED * max_tokens
        raise Refused("not asked yet")


def call_recipe(
    identity: Mapping[str, Any], messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int
) -> dict[str, Any]:
    """All that makes a reply."""
    said = [dict(message) for message in messages]
    return {"chat": dict(identity), "messages": said, "schema": dict(schema), "max_tokens": max_tokens}


def tokens_of(messages: Iterable[Message]) -> int:
    """An estimate, rather too high than too low."""
    return sum(int(len(message["content"]) / CHARACTERS_PER_TOKEN) + 8 for message in messages)
