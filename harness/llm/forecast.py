"""Forecast what calls of a chat model will cost before the first is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.errors import UserError
from harness.llm.budget import Budget, Price, estimate_tokens
from harness.llm.cache import CALLS, call_key
from harness.storage.store import Store
from methods.augmentation.generators.base import GenerationRefused
from methods.augmentation.generators.chat import Chat, Completion, Message

EXPECTED_SHARE = 0.3
"""Expected share of the maximum length that a reply uses."""


@dataclass
class Forecast:
    """Calls that are not in the cache yet, and their tokens."""

    calls: int = 0
    prompt: float = 0.0
    completion: float = 0.0

    def summary(self, price: Price) -> str:
        """Calls, tokens, and cost if there is one, in words."""
        cost = price.cost(self.prompt, self.completion)
        tokens = f"{self.calls:,} calls, {self.prompt:,.0f} + {self.completion:,.0f} tokens"
        return f"{tokens}, {cost:.2f} in money" if cost else tokens

    def check(self, budget: Budget) -> None:
        """Refuse to start if the forecast exceeds the budget.

        Raises:
            UserError: It does.
        """
        if budget.exceeded_by(self.prompt, self.completion):
            raise UserError(
                f"the forecast is {self.summary(budget.price)}",
                location="--budget-tokens, --budget-money",
                hint="raise the budget, or do less with --limit",
            )


class DryRunChat:
    """Returns stored replies and counts all other calls instead of making them. Satisfies ``Chat``."""

    def __init__(self, chat: Chat, store: Store) -> None:
        self.identity, self._store, self.forecast = chat.identity, store, Forecast()

    def complete(self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        """The stored reply.

        Raises:
            GenerationRefused: There is none; the call is counted, with the second call that some tasks need.
        """
        reply = self._store.read_json(CALLS, call_key(self.identity, messages, schema, max_tokens))
        if reply is not None:
            return Completion(**reply)
        calls = 2 if schema.get("title") in ("Questions", "Translation") else 1
        self.forecast.calls += calls
        prompt, completion = estimate_tokens(messages, schema, max_tokens)
        self.forecast.prompt += calls * prompt
        self.forecast.completion += calls * EXPECTED_SHARE * completion
        raise GenerationRefused("a dry run makes no calls")
