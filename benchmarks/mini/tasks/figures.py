"""Coloured shapes: their number, colours and names.

A patch is labelled randomly with the colour or the shape, so that the vision tower learns both.
"""

from __future__ import annotations

import random

from benchmarks.mini.canvas import COLOURS, GRID, PATCH, SHAPES, Canvas, draw_shape
from benchmarks.mini.tasks.base import QuestionSpec, Scene, sample_distractors
from benchmarks.mini.tasks.things import NUMBERS


def counted(rng: random.Random, difficulty: float = 1.0, count: int = 0) -> Scene:
    """One to five equal small shapes, at higher difficulty often among others; question: 0 how many."""
    count = count or rng.randint(1, 5)
    name, other = rng.sample(SHAPES, 2)
    colour, other_colour = rng.sample(list(COLOURS), 2)
    extra = rng.randint(1, 4) if difficulty > 0.3 and rng.random() < 0.5 else 0
    canvas = Canvas(rng)
    for number, spot in enumerate(rng.sample(range(GRID * GRID), count + extra)):
        what, paint = (name, colour) if number < count else (other, other_colour)
        x, y = (spot % GRID) * PATCH + 1, (spot // GRID) * PATCH + 1
        canvas.fill(draw_shape(what, 14), x, y, paint, rng.choice((paint, what)))
    others = f", {extra} {other_colour} {other}" if extra else ""
    things = {"circle": "circles", "square": "squares", "triangle": "triangles", "plus": "plus signs"}[name]
    wrong = sample_distractors(str(count), [n for n in NUMBERS if n != str(count)], 3, rng)
    return Scene.from_canvas(
        canvas,
        (("What shapes are in the image?", f"{count} {colour} {name}{others}"),),
        QuestionSpec(
            f"How many {things} are in the image?", str(count), wrong, f"Is the number of {things} in this image {{x}}?"
        ),
    )


def coloured(rng: random.Random, difficulty: float = 1.0) -> Scene:
    """One to three big shapes of different colours; questions: 0 the colour of one, 1 which shape has a colour."""
    count = rng.randint(1, 2) if difficulty < 0.3 else rng.randint(2, 3)
    names, colours = rng.sample(SHAPES, count), rng.sample(list(COLOURS), count)
    canvas = Canvas(rng)
    cells = sorted(rng.sample(range(4), count))
    for cell, name, colour in zip(cells, names, colours, strict=True):
        size = rng.choice((26, 30))
        x, y = (cell % 2) * 32 + rng.randint(0, 32 - size), (cell // 2) * 32 + rng.randint(0, 32 - size)
        canvas.fill(draw_shape(name, size), x, y, colour, rng.choice((colour, name)))
    index = rng.randrange(count)
    name, colour = names[index], colours[index]
    wrong_colours = _wrong(colour, colours, list(COLOURS), rng)
    wrong_shapes = _wrong(name, names, list(SHAPES), rng)
    listing = ", ".join(f"{c} {n}" for c, n in zip(colours, names, strict=True))
    return Scene.from_canvas(
        canvas,
        (("What shapes are in the image?", listing),),
        QuestionSpec(f"What colour is the {name}?", colour, wrong_colours, f"Is the {name} {{x}}?"),
        QuestionSpec(f"Which shape is {colour}?", name, wrong_shapes, f"Is the {{x}} {colour}?"),
    )


def _wrong(answer: str, shown: list[str], everything: list[str], rng: random.Random) -> tuple[str, ...]:
    """Three distractors, those shown elsewhere in the picture first."""
    near = [value for value in shown if value != answer]
    far = [value for value in everything if value not in shown]
    return tuple(near + rng.sample(far, len(far)))[:3]
