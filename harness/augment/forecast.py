"""What an augmentation will cost, counted before the first call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.errors import UserError
from harness.llm.budget import Budget, estimate_tokens
from harness.llm.cache import CALLS, call_recipe
from harness.storage.store import Store
from methods.augmentation.generators.base import GenerationRefused
from methods.augmentation.generators.chat import Chat, Completion, Message

EXPECTED = 0.3
"""Of a reply's limit that it is expected to use."""


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
                location="--budget-tokens, --budget-money",
                hint="raise the budget, or augment fewer items with --limit",
            )


class DryRunChat:
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
        prompt, completion = estimate_tokens(messages, schema, max_tokens)
        self.forecast.prompt += calls * prompt
        self.forecast.completion += calls * EXPECTED * completion
        raise GenerationRefused("not asked yet")
