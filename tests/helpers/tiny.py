"""A random LLaVA of a few thousand parameters with conversations and questions, for tests that run a model."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from benchmarks.records import Conversation, Picture, Question
from harness.conformance.tiny_model import conversation as conversation
from harness.conformance.tiny_model import knowledge as knowledge
from harness.conformance.tiny_model import picture as picture
from harness.conformance.tiny_model import write_tiny_model as write_tiny_model


def conversations(count: int, seed: int = 0) -> list[Conversation]:
    """Conversations of many lengths, with none, one or two pictures and one to three turns."""
    draw = np.random.default_rng(seed)
    return [
        conversation(
            seed * 10_000 + index,
            words=int(draw.integers(1, 12)),
            turns=int(draw.integers(1, 4)),
            pictures=int(draw.choice([0, 1, 1, 1, 2])),
        )
        for index in range(count)
    ]


def bomb() -> bytes:
    """A small file with too many pixels to decode."""
    file = io.BytesIO()
    Image.new("1", (14_000, 14_000)).save(file, "PNG")
    return file.getvalue()


def question(index: int, *, turns: int = 1, pictures: int = 1, max_new_tokens: int = 12) -> Question:
    """A question that differs from every other ``index``."""
    sample = conversation(index, turns=turns, pictures=pictures)
    asked = tuple(turn.text for turn in sample.turns if turn.role == "user")
    return Question(
        id=f"question-{index}",
        benchmark="tiny",
        turns=asked,
        pictures=sample.pictures,
        reference="Ghana",
        max_new_tokens=max_new_tokens,
    )


def questions(count: int, seed: int = 0) -> list[Question]:
    """Questions of many lengths, some of several turns, some without a picture."""
    draw = np.random.default_rng(seed)
    return [
        question(seed * 10_000 + i, turns=int(draw.choice([1, 1, 1, 3])), pictures=int(draw.choice([0, 1, 1, 2])))
        for i in range(count)
    ]


def as_dialogue(sample: Conversation) -> tuple[Sequence[str], Sequence[Picture]]:
    """A conversation without its last answer, as ``generation_batch`` takes it."""
    return [turn.text for turn in sample.turns[:-1]], sample.pictures
