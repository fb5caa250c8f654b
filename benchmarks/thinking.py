"""Thinking blocks in answers: what a model writes between ``<think>`` and ``</think>`` is no part of its answer.

Answers are stored as they were given; blocks are cut where answers are scored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from benchmarks.records import Answer

OPEN, CLOSE = "<think>", "</think>"


def cut_thinking(text: str) -> str:
    """The text after its thinking blocks, without white space around it.

    A block may have been opened by the prompt, so everything up to the last ``</think>`` is cut; and everything from a
    ``<think>`` that is never closed. A text without either is returned as it is.
    """
    if not has_thinking(text):
        return text
    after = text.rpartition(CLOSE)[2]
    return after.partition(OPEN)[0].strip()


def has_thinking(text: str) -> bool:
    """Whether there is a thinking block, or the rest of one."""
    return OPEN in text or CLOSE in text


def is_unclosed(text: str) -> bool:
    """Whether the text ends inside a thinking block that it opened, so that it has no answer."""
    return OPEN in text.rpartition(CLOSE)[2]


def without_thinking(answer: Answer) -> Answer:
    """The answer as it is scored; one that ends inside a thinking block counts as truncated."""
    if not any(map(has_thinking, answer.texts)):
        return answer
    cut = tuple(map(cut_thinking, answer.texts))
    return replace(answer, texts=cut, truncated=answer.truncated or any(map(is_unclosed, answer.texts)))


def any_thinking(answers: Iterable[Answer]) -> bool:
    """Whether some answer has a thinking block."""
    return any(has_thinking(text) for answer in answers for text in answer.texts)
