"""Scenes of one to four things in the quarters of the picture."""

from __future__ import annotations

import random

from benchmarks.mini.canvas import Canvas
from benchmarks.mini.tasks.base import QuestionSpec, Scene, apart
from benchmarks.mini.tasks.studio import SceneFactory
from benchmarks.mini.world import Entity

CELLS = ("top left", "top right", "bottom left", "bottom right")
SIDES = {"left": (0, 2), "right": (1, 3), "top": (0, 1), "bottom": (2, 3)}
NUMBERS = ("1", "2", "3", "4", "5")


def draw(studio: SceneFactory, rng: random.Random, cells: dict[int, Entity]) -> Canvas:
    """Put each thing into its quarter, moved and scaled a little."""
    canvas = Canvas(rng)
    for cell, entity in cells.items():
        side = rng.choice((28, 32))
        play = 32 - side
        x, y = (cell % 2) * 32 + rng.randint(0, play), (cell // 2) * 32 + rng.randint(0, play)
        canvas.stamp(studio.any_icon(entity, rng, side), x, y, entity.name)
    return canvas


def scene(studio: SceneFactory, rng: random.Random, ease: float = 1.0, count: int = 0) -> Scene:
    """Things in quarters, with asks 0 presence, 1 place of one thing, 2 thing in one place, 3 number of things."""
    count = count or rng.randint(1 if ease < 0.2 else 2, 2 if ease < 0.1 else 4)
    chosen = studio.some_props(rng, count + 3, ease)
    there, absent = chosen[:count], chosen[count:]
    cells = dict(zip(sorted(rng.sample(range(4), count)), there, strict=True))
    canvas = draw(studio, rng, cells)
    cell, thing = rng.choice(list(cells.items()))
    others = [entity.name for entity in there if entity is not thing]
    wrong_names = tuple(others + [entity.name for entity in absent])[:3]
    taken = [name for index, name in enumerate(CELLS) if index in cells and index != cell]
    wrong_cells = tuple(taken + [name for name in CELLS if name != CELLS[cell] and name not in taken])
    listing = ", ".join(entity.name for entity in cells.values())
    return Scene(
        canvas.pixels,
        canvas.labels,
        looks=(("What things are in the image?", listing), (f"What is at the {CELLS[cell]}?", thing.name)),
        asks=(
            QuestionSpec(
                "What is in the image?", thing.name, tuple(e.name for e in absent), "Is there {a} in this image?"
            ),
            QuestionSpec(f"Where is the {thing.name}?", CELLS[cell], wrong_cells, f"Is the {thing.name} at the {{x}}?"),
            QuestionSpec(
                f"What is at the {CELLS[cell]}?", thing.name, wrong_names, f"Is the thing at the {CELLS[cell]} {{a}}?"
            ),
            QuestionSpec(
                "How many things are in the image?",
                str(count),
                apart(str(count), list(NUMBERS), 3, rng),
                "Is the number of things in this image {x}?",
            ),
        ),
    )


def sides(studio: SceneFactory, rng: random.Random, ease: float = 1.0) -> Scene:
    """Two things side by side or one above the other, with one ask: on which side one of them is."""
    first, second = studio.some_props(rng, 2, ease)
    near, far, cells = rng.choice(
        (("left", "right", (0, 1)), ("left", "right", (2, 3)), ("top", "bottom", (0, 2)), ("top", "bottom", (1, 3)))
    )
    canvas = draw(studio, rng, {cells[0]: first, cells[1]: second})
    thing, here, there = rng.choice(((first, near, far), (second, far, near)))
    where = "on the {x} side of" if near == "left" else "at the {x} of"
    return Scene(
        canvas.pixels,
        canvas.labels,
        looks=(
            ("What things are in the image?", f"{first.name}, {second.name}"),
            (f"What is on the {near} side?" if near == "left" else f"What is at the {near}?", first.name),
        ),
        asks=(
            QuestionSpec(
                f"On which side of the image is the {thing.name}?",
                here,
                (there,),
                f"Is the {thing.name} {where} this image?",
            ),
        ),
    )


def presence(studio: SceneFactory, rng: random.Random, ease: float, kind: str) -> Scene:
    """A scene whose one ask has a false answer that is random, popular, or of the same type as something shown."""
    count = rng.randint(2, 3)
    there = studio.some_props(rng, count, ease)
    absent = [entity for entity in studio.props if entity not in there]
    if kind == "popular":
        absent = [entity for entity in studio.props[:12] if entity not in there]
    elif kind == "adversarial":
        absent = [e for e in absent if any(e.type == other.type for other in there)] or absent
    cells = dict(zip(sorted(rng.sample(range(4), count)), there, strict=True))
    canvas = draw(studio, rng, cells)
    return Scene(
        canvas.pixels,
        canvas.labels,
        looks=(("What things are in the image?", ", ".join(entity.name for entity in cells.values())),),
        asks=(QuestionSpec("", rng.choice(there).name, (rng.choice(absent).name,), "Is there {a} in the image?"),),
    )
