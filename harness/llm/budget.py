"""What one command may spend on a chat model: forecast before, held during, also by many calls at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from methods.augmentation.generators.base import GenerationRefused
from methods.augmentation.generators.chat import Completion, Message

LETTERS_PER_TOKEN = 3.5
"""In ASCII, rather too few; of other scripts each byte counts as half a token."""
AROUND = 8
"""Tokens around each message."""
PICTURE = " " * 4000
Tokens = tuple[float, float]
"""Of prompts and of replies."""


@dataclass(frozen=True)
class Price:
    """Money for a million tokens."""

    prompt: float = 0.0
    completion: float = 0.0

    def of(self, prompt: float, completion: float) -> float:
        """What so many tokens cost."""
        return (prompt * self.prompt + completion * self.completion) / 1e6


class BudgetSpent(GenerationRefused):
    """The next call could go beyond the budget."""


class Budget:
    """What one command may spend. Safe to use from several threads.

    What a call may use is set aside before it begins. A server may count more than that: then so much more is set aside
    for every call after, and the first call goes alone, so that no crowd of calls starts from a wrong measure.

    Args:
        tokens: At most, prompts and replies together; None for no limit.
        money: At most; None for no limit.
        price: Of a token.
    """

    def __init__(self, tokens: int | None = None, money: float | None = None, price: Price | None = None) -> None:
        self.tokens, self.money, self.price = tokens, money, price or Price()
        self.calls, self.prompt, self.completion = 0, 0, 0
        self.ran_out = False
        self._aside: Tokens = (0.0, 0.0)
        self._scale: Tokens = (1.0, 1.0)
        self._under_way = 0
        self._settled = threading.Condition()

    @property
    def spent(self) -> float:
        """Money."""
        return self.price.of(self.prompt, self.completion)

    def reserve(self, most: Tokens) -> Tokens:
        """Set the most that a call can use aside; what ``settle`` wants back.

        Raises:
            BudgetSpent: Not so much is left.
        """
        with self._settled:
            limited = self.tokens is not None or self.money is not None
            self._settled.wait_for(lambda: not limited or self.calls > 0 or self._under_way == 0)
            aside = (most[0] * self._scale[0], most[1] * self._scale[1])
            if self.exceeded_by(self.prompt + self._aside[0] + aside[0], self.completion + self._aside[1] + aside[1]):
                self.ran_out = True
                raise BudgetSpent("the budget is used up; the same command with a larger one goes on from here")
            self._aside = (self._aside[0] + aside[0], self._aside[1] + aside[1])
            self._under_way += 1
            return aside

    def settle(self, aside: Tokens, used: Completion | None) -> None:
        """Replace what was set aside by what was used; None where the call failed.

        Where the server does not say what was used, all that was set aside counts as used.
        """
        with self._settled:
            self._aside = (self._aside[0] - aside[0], self._aside[1] - aside[1])
            self._under_way -= 1
            if used is not None:
                told = (used.prompt_tokens, used.completion_tokens)
                prompt, completion = told if any(told) else (round(aside[0]), round(aside[1]))
                self.calls, self.prompt = self.calls + 1, self.prompt + prompt
                self.completion += completion
                self._scale = (
                    self._scale[0] * max(1.0, prompt / aside[0]),
                    self._scale[1] * max(1.0, completion / aside[1]),
                )
            self._settled.notify_all()

    def exceeded_by(self, prompt: float, completion: float) -> bool:
        """Whether so many tokens are more than it allows."""
        over_tokens = self.tokens is not None and prompt + completion > self.tokens
        return over_tokens or (self.money is not None and self.price.of(prompt, completion) > self.money)


def estimate_tokens(messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Tokens:
    """The most that a call is thought to use; what it really used is as the server says."""
    texts = [json.dumps(dict(schema)), *(text for message in messages for text in _texts(message["content"]))]
    return AROUND * len(messages) + sum(map(_tokens, texts)), float(max_tokens)


def _texts(content: str | Sequence[Mapping[str, Any]]) -> list[str]:
    """Those of a message, which may come in parts; a picture counts as a long one."""
    if isinstance(content, str):
        return [content]
    return [part["text"] if part["type"] == "text" else PICTURE for part in content]


def _tokens(text: str) -> float:
    plain = sum(letter.isascii() for letter in text)
    return plain / LETTERS_PER_TOKEN + (len(text.encode("utf-8", "surrogatepass")) - plain) / 2
