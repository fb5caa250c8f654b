"""Dialogues to check a model on: one picture, several, none, several turns, a picture in a later turn."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
from PIL import Image

from benchmarks.records import IMAGE, Conversation, Picture, Turn
from harness.models.base import Dialogue


@cache
def blocks(seed: int, width: int, height: int) -> Picture:
    """A PNG of coloured blocks of any size; equal seeds give equal bytes."""
    values = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).resize((width, height), Image.Resampling.NEAREST).save(file, "PNG")
    return Picture(file.getvalue())


WIDE, TALL, SMALL = blocks(1, 150, 60), blocks(2, 70, 160), blocks(3, 40, 40)

_TEXTS: dict[str, tuple[tuple[str, ...], tuple[Picture, ...]]] = {
    "one picture": ((f"{IMAGE}\nWhat is shown?", "A flag of Chad."), (WIDE,)),
    "several pictures": (
        (f"{IMAGE}\n{IMAGE}\n{IMAGE}\nAre they alike?", "No, the second one is a flag."),
        (TALL, SMALL, WIDE),
    ),
    "no picture": (("Describe the flag.", "Blue, yellow and red."), ()),
    "several turns": (
        (f"{IMAGE}\nIs this a cat?", "No.", "And how many dogs are there?", "3", "Why?", "The picture shows 3 dogs."),
        (TALL,),
    ),
    "a picture in a later turn": (("A cat?", "Yes.", f"{IMAGE}\nAnd this?", "A flag."), (SMALL,)),
}


def samples() -> dict[str, Conversation]:
    """The dialogues as training samples, by what is particular to each."""
    return {
        name: Conversation(
            name, tuple(Turn(("user", "assistant")[turn % 2], text) for turn, text in enumerate(texts)), pictures
        )
        for name, (texts, pictures) in _TEXTS.items()
    }


def prompts() -> dict[str, Dialogue]:
    """Each beginning of a dialogue that ends with a question, by name and number of the turn."""
    return {
        f"{name}, turn {turn // 2 + 1}": (texts[: turn + 1], shown(texts[: turn + 1], pictures))
        for name, (texts, pictures) in _TEXTS.items()
        for turn in range(0, len(texts), 2)
    }


def shown(texts: tuple[str, ...], pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
    """The pictures of these turns."""
    return pictures[: sum(text.count(IMAGE) for text in texts)]
