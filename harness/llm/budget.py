"""What one command may spend on a chat model; also holds for parallel calls."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from methods.augmentation.generators.base import GenerationRefused
from methods.augmentation.generators.chat import Completion, Message

CHARACTERS_PER_TOKEN = 3.5
"""Of ASCII, a cautious estimate; in other scripts each byte counts as half a token."""
TOKENS_PER_MESSAGE = 8
"""Overhead of each message."""
PICTURE_TEXT = " " * 4000
"""A text that is estimated to cost about as many tokens as a picture."""
Tokens = tuple[float, float]
"""Tokens of prompts and of replies."""


@dataclass(frozen=True)
class Price:
    """Money for a million tokens."""

    prompt: float = 0.0
    completion: float = 0.0

    def cost(self, prompt: float, completion: float) -> float:
        """Money for these numbers of tokens."""
        return (prompt * self.prompt + completion * self.completion) / 1e6


class BudgetSpent(GenerationRefused):
    """The next call could exceed the budget."""


class Budget:
    """What one command may spend. Thread-safe.

    Tokens are reserved before a call starts. If the server counts more than was reserved, all later reservations grow
    by that factor. The first call runs alone, so that parallel calls do not all start from an estimate that is too low.

    Args:
        tokens: Maximum, prompts and replies together; None for no limit.
        money: Maximum; None for no limit.
        price: Price of tokens.
    """

    def __init__(self, tokens: int | None = None, money: float | None = None, price: Price | None = None) -> None:
        self.tokens, self.money, self.price = tokens, money, price or Price()
        self.calls, self.prompt, self.completion = 0, 0, 0
        self.ran_out = False
        self._reserved: Tokens = (0.0, 0.0)
        self._scale: Tokens = (1.0, 1.0)
        self._running_calls = 0
        self._condition = threading.Condition()

    @property
    def spent(self) -> float:
        """Money spent so far."""
        return self.price.cost(self.prompt, self.completion)

    def reserve(self, estimate: Tokens) -> Tokens:
        """Reserve the most that a call can use; pass the result to ``settle``.

        Raises:
            BudgetSpent: There is not enough left.
        """
        with self._condition:
            limited = self.tokens is not None or self.money is not None
            self._condition.wait_for(lambda: not limited or self.calls > 0 or self._running_calls == 0)
            wanted = (estimate[0] * self._scale[0], estimate[1] * self._scale[1])
            prompt = self.prompt + self._reserved[0] + wanted[0]
            completion = self.completion + self._reserved[1] + wanted[1]
            if self.exceeded_by(prompt, completion):
                self.ran_out = True
                raise BudgetSpent("the budget is used up; run the same command with a larger one to continue")
            self._reserved = (self._reserved[0] + wanted[0], self._reserved[1] + wanted[1])
            self._running_calls += 1
            return wanted

    def settle(self, reserved: Tokens, completion: Completion | None) -> None:
        """Replace a reservation by what was used; ``completion`` is None if the call failed.

        If the server does not report usage, the whole reservation counts as used.
        """
        with self._condition:
            self._reserved = (self._reserved[0] - reserved[0], self._reserved[1] - reserved[1])
            self._running_calls -= 1
            if completion is not None:
                used = (completion.prompt_tokens, completion.completion_tokens)
                if not any(used):
                    used = (round(reserved[0]), round(reserved[1]))
                self.calls += 1
                self.prompt += used[0]
                self.completion += used[1]
                self._scale = (
                    self._scale[0] * max(1.0, used[0] / reserved[0]),
                    self._scale[1] * max(1.0, used[1] / reserved[1]),
                )
            self._condition.notify_all()

    def exceeded_by(self, prompt: float, completion: float) -> bool:
        """Whether these numbers of tokens exceed the budget."""
        too_many_tokens = self.tokens is not None and prompt + completion > self.tokens
        return too_many_tokens or (self.money is not None and self.price.cost(prompt, completion) > self.money)


def estimate_tokens(messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Tokens:
    """Estimate the most tokens that a call can use."""
    texts = [json.dumps(dict(schema)), *(text for message in messages for text in _texts(message["content"]))]
    return TOKENS_PER_MESSAGE * len(messages) + sum(map(_tokens, texts)), float(max_tokens)


def _texts(content: str | Sequence[Mapping[str, Any]]) -> list[str]:
    """The texts of a message or of its parts, with ``PICTURE_TEXT`` for a picture."""
    if isinstance(content, str):
        return [content]
    return [part["text"] if part["type"] == "text" else PICTURE_TEXT for part in content]


def _tokens(text: str) -> float:
    ascii_characters = sum(letter.isascii() for letter in text)
    other_bytes = len(text.encode("utf-8", "surrogatepass")) - ascii_characters
    return ascii_characters / CHARACTERS_PER_TOKEN + other_bytes / 2
