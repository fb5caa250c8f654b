"""Bar charts, tables and a coarse world map."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.mini.canvas import COLOURS, PATCH, SIDE, Canvas, Pixels, draw_shape
from benchmarks.mini.tasks.base import QuestionSpec, Scene, sample_distractors
from benchmarks.mini.tasks.reading import WORDS
from benchmarks.mini.tasks.things import NUMBERS

STEP = 12
"""Height of one unit in a bar chart, in pixels."""

CONTINENTS = {
    "North America": "-165,66 -125,70 -80,72 -58,52 -80,30 -82,9 -105,20 -120,34 -130,52 -160,58",
    "South America": "-80,10 -62,11 -35,-6 -42,-22 -60,-38 -70,-55 -76,-45 -71,-18",
    "Europe": "-10,37 -10,58 12,71 42,70 46,46 28,38 10,40",
    "Africa": "-17,33 10,36 33,31 51,12 38,-14 20,-35 12,-8 8,4 -16,10",
    "Asia": "46,46 44,72 110,76 175,68 140,46 120,24 104,2 78,8 58,24 44,13 33,36",
    "Oceania": "113,-12 142,-9 154,-26 148,-39 130,-32 114,-35",
}
"""Rough outlines: points as "degrees east,degrees north"."""


def values(rng: random.Random, difficulty: float = 1.0) -> dict[str, int]:
    """Two to four colours with different heights of 1 to 5."""
    count = 2 if difficulty < 0.15 else rng.randint(2, 4)
    return dict(zip(rng.sample(list(COLOURS), count), rng.sample(range(1, 6), count), strict=True))


def bars(rng: random.Random, heights: dict[str, int]) -> Scene:
    """A bar chart; questions: 0 the value of one bar, 1 the highest, 2 the lowest."""
    canvas = Canvas(rng)
    for level in range(1, 6):
        canvas.pixels[SIDE - 1 - level * STEP] = 190
    canvas.pixels[SIDE - 1] = 40
    start = rng.randint(0, 4 - len(heights))
    for column, (colour, height) in enumerate(heights.items(), start):
        block = np.full((height * STEP, 12), 255, dtype=np.uint8)
        canvas.fill(block, column * PATCH + 2, SIDE - 1 - height * STEP, colour, colour)
    colour = rng.choice(list(heights))
    order = sorted(heights, key=lambda name: heights[name])
    middle = [name for name in order if name not in (order[0], order[-1])]
    others = [name for name in COLOURS if name not in heights]
    fill = rng.sample(others, 3)
    near = sample_distractors(str(heights[colour]), [n for n in NUMBERS if n != str(heights[colour])], 3, rng)
    listing = ", ".join(f"{name} {height}" for name, height in heights.items())
    high, low = order[-1], order[0]
    return Scene.from_canvas(
        canvas,
        (("What are the values of the bars?", listing),),
        QuestionSpec(
            f"What is the value of the {colour} bar?", str(heights[colour]), near, f"Is the {colour} bar {{x}} high?"
        ),
        QuestionSpec(
            "What is the colour of the highest bar?", high, (low, *middle, *fill)[:3], "Is the {x} bar the highest?"
        ),
        QuestionSpec(
            "What is the colour of the lowest bar?", low, (high, *middle, *fill)[:3], "Is the {x} bar the lowest?"
        ),
    )


def table(rng: random.Random, difficulty: float = 1.0, rows: dict[str, int] | None = None) -> Scene:
    """Two or three rows of a coloured disc and a digit; questions: 0 the digit of a row, 1 the colour of a digit."""
    count = 2 if difficulty < 0.2 else rng.randint(2, 3)
    cells = rows or dict(zip(rng.sample(list(COLOURS), count), rng.sample(range(1, 10), count), strict=True))
    canvas = Canvas(rng)
    start = rng.randint(0, 4 - len(cells))
    column = rng.randint(0, 2)
    for row, (colour, value) in enumerate(cells.items(), start):
        canvas.fill(draw_shape("circle", 14), column * PATCH + 1, row * PATCH + 1, colour, colour)
        canvas.write(str(value), column + 1, row)
    colour = rng.choice(list(cells))
    digit = str(cells[colour])
    shown = [str(value) for value in cells.values() if str(value) != digit]
    far = [str(value) for value in range(1, 10) if value not in cells.values()]
    names = [name for name in cells if name != colour]
    rest = [name for name in COLOURS if name not in cells]
    listing = ", ".join(f"{name} {value}" for name, value in cells.items())
    return Scene.from_canvas(
        canvas,
        (("What is in the table?", listing),),
        QuestionSpec(
            f"What number is next to the {colour} circle?",
            digit,
            tuple(shown + rng.sample(far, 3))[:3],
            f"Is the number next to the {colour} circle {{x}}?",
        ),
        QuestionSpec(
            f"Which colour is next to the number {digit}?",
            colour,
            tuple(names + rng.sample(rest, 3))[:3],
            f"Is {{x}} next to the number {digit}?",
        ),
    )


def price_list(rng: random.Random) -> Scene:
    """Two printed three- or four-letter words, each with a digit below it; question: 0 the digit of one word."""
    first, second = rng.sample(WORDS, 2)
    one, two = rng.sample(range(1, 10), 2)
    canvas = Canvas(rng)
    for row, (text, digit) in enumerate(((first, one), (second, two))):
        canvas.write(text, 0, 2 * row, "blue")
        canvas.write(str(digit), rng.randrange(4), 2 * row + 1)
    text, digit, other = rng.choice(((first, one, two), (second, two, one)))
    far = [str(value) for value in range(1, 10) if value not in (one, two)]
    return Scene.from_canvas(
        canvas,
        (("What is written in the image?", f"{first} {one}, {second} {two}"),),
        QuestionSpec(
            f"What number is below the word {text}?",
            str(digit),
            (str(other), *rng.sample(far, 2)),
            f"Is the number below the word {text} {{x}}?",
        ),
    )


def world_map(rng: random.Random, difficulty: float = 1.0, painted: dict[str, str] | None = None) -> Scene:
    """The continents, one or two of them coloured; questions: 0 the continent of a colour, 1 the colour of one."""
    count = 1 if difficulty < 0.2 else rng.randint(1, 2)
    places = painted or dict(zip(rng.sample(list(CONTINENTS), count), rng.sample(list(COLOURS), count), strict=True))
    canvas = Canvas(rng)
    for name in CONTINENTS:
        area = outline(name)
        tone = np.array(COLOURS[places[name]] if name in places else (185, 185, 185), dtype=np.uint8)
        canvas.pixels[area > 0] = tone
        if name in places:
            rows, columns = np.nonzero(area)
            canvas.mark(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1, name)
    name, colour = rng.choice(list(places.items()))
    others = [other for other in places if other != name]
    rest = [other for other in CONTINENTS if other not in places]
    other_colours = [paint for paint in places.values() if paint != colour]
    far = [paint for paint in COLOURS if paint not in places.values()]
    listing = ", ".join(f"{place} {paint}" for place, paint in places.items())
    return Scene.from_canvas(
        canvas,
        (("What are the colours of the map?", listing),),
        QuestionSpec(
            f"Which continent is {colour} on the map?",
            name,
            tuple(others + rng.sample(rest, 3))[:3],
            f"Is {{x}} {colour} on the map?",
        ),
        QuestionSpec(
            f"What is the colour of {name} on the map?",
            colour,
            tuple(other_colours + rng.sample(far, 3))[:3],
            f"Is {name} {{x}} on the map?",
        ),
    )


@cache
def outline(continent: str) -> Pixels:
    """The continent's area, ``(64, 64) uint8``, 255 inside."""
    image = Image.new("L", (SIDE, SIDE), 0)
    degrees = (map(int, point.split(",")) for point in CONTINENTS[continent].split())
    points = [((east + 172) * 63 / 350, (78 - north) * 63 / 136) for east, north in degrees]
    ImageDraw.Draw(image).polygon(points, fill=255)
    return np.asarray(image)
