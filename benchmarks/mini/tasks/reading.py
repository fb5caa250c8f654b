"""Printed words, numbers and sums, one character per patch."""

from __future__ import annotations

import random

from benchmarks.mini.canvas import GRID, Canvas
from benchmarks.mini.tasks.base import QuestionSpec, Scene, sample_distractors

_PRINTED = """
OPEN SALE EXIT STOP PARK BANK NEWS FREE ZONE HELP PUSH PULL WEST EAST GOOD PLAY WAIT SLOW FAST HIGH LAST FULL CITY ROAD
GATE HALL ROOM SHOP CLUB TEAM GAME BLUE GOLF POOL MEAT SOUP MILK SALT KIDS LOVE JOIN KEEP ALSO VERY WIDE MIND NEXT SIDE
TIME YEAR WORK FORM LINE DATE NAME PAGE
"""
WORDS = tuple(_PRINTED.split())
"""Four letters each, one per patch."""
INK = ("black", "blue", "red", "purple", "green", "brown")


def word(rng: random.Random, difficulty: float = 1.0) -> Scene:
    """One printed word; question: 0 which."""
    text = rng.choice(WORDS[: 12 if difficulty < 0.1 else len(WORDS)])
    canvas = Canvas(rng)
    canvas.write(text, 0, rng.randrange(GRID), rng.choice(INK))
    return Scene.from_canvas(
        canvas,
        (("Spell the word in the image.", " ".join(text)), ("What word is in the image?", text)),
        QuestionSpec(
            "What word is written in the image?", text, _other_words(text, rng), 'Is the word in this image "{x}"?'
        ),
    )


def card(rng: random.Random) -> Scene:
    """A card with a word above and a number below; questions: 0 the word, 1 the number, 2 the word's colour."""
    text, number = rng.choice(WORDS), str(rng.randint(10, 99))
    ink, other = rng.sample(INK, 2)
    canvas = Canvas(rng)
    top, bottom = rng.choice(((0, 2), (0, 3), (1, 2), (1, 3)))
    canvas.write(text, 0, top, ink)
    canvas.write(number, rng.randrange(GRID - 1), bottom, other)
    numbers = [str(n) for n in range(10, 100)]
    return Scene.from_canvas(
        canvas,
        (("What is written in the image?", f"{text}, {number}"),),
        QuestionSpec("What is the word on the card?", text, _other_words(text, rng), 'Is the word on the card "{x}"?'),
        QuestionSpec(
            "What is the number on the card?", number, sample_distractors(number, numbers, 3, rng), "Is the number {x}?"
        ),
        QuestionSpec(
            "What is the colour of the word?",
            ink,
            (other, *sample_distractors(ink, [c for c in INK if c != other], 2, rng)),
        ),
    )


def number(rng: random.Random) -> Scene:
    """A printed number of one or two digits; question: 0 which."""
    text = str(rng.randint(1, 99))
    canvas = Canvas(rng)
    canvas.write(text, rng.randrange(GRID - len(text) + 1), rng.randrange(GRID), rng.choice(INK))
    wrong = sample_distractors(text, [str(n) for n in range(10, 100)], 3, rng)
    return Scene.from_canvas(
        canvas,
        (("What number is in the image?", text),),
        QuestionSpec("What number is written in the image?", text, wrong, "Is the number in this image {x}?"),
    )


def addition(rng: random.Random) -> Scene:
    """A printed sum or difference with a result of 1 to 9; question: 0 the result."""
    plus = rng.random() < 0.5
    result = rng.randint(2, 9) if plus else rng.randint(1, 8)
    first = rng.randint(1, result - 1) if plus else rng.randint(result + 1, 9)
    text = f"{first}{'+' if plus else '-'}{result - first if plus else first - result}"
    canvas = Canvas(rng)
    canvas.write(text + "=" * rng.randint(0, 1), 0, rng.randrange(GRID), rng.choice(INK))
    near = [str(n) for n in range(max(1, result - 3), min(9, result + 3) + 1) if n != result]
    return Scene.from_canvas(
        canvas,
        (("What sum is in the image?", text),),
        QuestionSpec(
            "What is the answer to the sum in the image?",
            str(result),
            sample_distractors(str(result), near, 3, rng),
            "Is the answer to the sum in this image {x}?",
        ),
    )


def _other_words(text: str, rng: random.Random) -> tuple[str, ...]:
    return sample_distractors(text, [w for w in WORDS if w != text], 3, rng)
