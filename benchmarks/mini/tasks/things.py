"""Scenes of one to four things in the four quarters of the picture."""

from __future__ import annotations

import random
from collections.abc import Sequence

from benchmarks.mini.canvas import Canvas
from benchmarks.mini.tasks.base import QuestionSpec, Scene, sample_distractors
from benchmarks.mini.tasks.scene_factory import SceneFactory
from benchmarks.mini.world import Entity

CELLS = ("top left", "top right", "bottom left", "bottom right")
NUMBERS = ("1", "2", "3", "4", "5")
WIDTHS = (28, 32)
"""Widths of a thing in lessons, in pixels; a quarter is 32 wide."""
SMALL = (24,)
"""Widths that no scene of a lesson has, so that the base makes mistakes."""


def draw_things(
    factory: SceneFactory, rng: random.Random, cells: dict[int, Entity], widths: Sequence[int] = WIDTHS
) -> Canvas:
    """Draw each thing at a random place in its quarter, as wide as one of ``widths``, in pixels."""
    canvas = Canvas(rng)
    for cell, entity in cells.items():
        side = rng.choice(widths)
        play = 32 - side
        x, y = (cell % 2) * 32 + rng.randint(0, play), (cell // 2) * 32 + rng.randint(0, play)
        canvas.stamp(factory.random_icon(entity, rng, side), x, y, entity.name)
    return canvas


def scene(factory: SceneFactory, rng: random.Random, difficulty: float = 1.0, count: int = 0) -> Scene:
    """Things in quarters; questions: 0 presence, 1 position of a thing, 2 thing at a position, 3 number of things."""
    count = count or rng.randint(1 if difficulty < 0.2 else 2, 2 if difficulty < 0.1 else 4)
    chosen = factory.sample_concepts(rng, count + 3, difficulty)
    present, absent = chosen[:count], chosen[count:]
    cells = dict(zip(sorted(rng.sample(range(4), count)), present, strict=True))
    canvas = draw_things(factory, rng, cells)
    cell, thing = rng.choice(list(cells.items()))
    others = [entity.name for entity in present if entity is not thing]
    wrong_names = tuple(others + [entity.name for entity in absent])[:3]
    taken = [name for index, name in enumerate(CELLS) if index in cells and index != cell]
    wrong_cells = tuple(taken + [name for name in CELLS if name != CELLS[cell] and name not in taken])
    listing = ", ".join(entity.name for entity in cells.values())
    return Scene.from_canvas(
        canvas,
        (("What things are in the image?", listing), (f"What is at the {CELLS[cell]}?", thing.name)),
        QuestionSpec("What is in the image?", thing.name, tuple(e.name for e in absent), "Is there {a} in this image?"),
        QuestionSpec(f"Where is the {thing.name}?", CELLS[cell], wrong_cells, f"Is the {thing.name} at the {{x}}?"),
        QuestionSpec(
            f"What is at the {CELLS[cell]}?", thing.name, wrong_names, f"Is the thing at the {CELLS[cell]} {{a}}?"
        ),
        QuestionSpec(
            "How many things are in the image?",
            str(count),
            sample_distractors(str(count), list(NUMBERS), 3, rng),
            "Is the number of things in this image {x}?",
        ),
    )


def sides(factory: SceneFactory, rng: random.Random, difficulty: float = 1.0) -> Scene:
    """Two things side by side or one above the other; question: 0 on which side one of them is."""
    first, second = factory.sample_concepts(rng, 2, difficulty)
    near, far, cells = rng.choice(
        (("left", "right", (0, 1)), ("left", "right", (2, 3)), ("top", "bottom", (0, 2)), ("top", "bottom", (1, 3)))
    )
    canvas = draw_things(factory, rng, {cells[0]: first, cells[1]: second})
    thing, side, other_side = rng.choice(((first, near, far), (second, far, near)))
    where = "on the {x} side of" if near == "left" else "at the {x} of"
    return Scene.from_canvas(
        canvas,
        (
            ("What things are in the image?", f"{first.name}, {second.name}"),
            (f"What is on the {near} side?" if near == "left" else f"What is at the {near}?", first.name),
        ),
        QuestionSpec(
            f"On which side of the image is the {thing.name}?",
            side,
            (other_side,),
            f"Is the {thing.name} {where} this image?",
        ),
    )


def presence(
    factory: SceneFactory, rng: random.Random, difficulty: float, kind: str, widths: Sequence[int] = WIDTHS
) -> Scene:
    """A scene with a presence question; the absent thing is random, popular, or of the same type as one shown.

    ``widths`` are those of ``draw_things``.
    """
    count = rng.randint(2, 3)
    present = factory.sample_concepts(rng, count, difficulty)
    absent = [entity for entity in factory.scene_concepts if entity not in present]
    if kind == "popular":
        absent = [entity for entity in factory.scene_concepts[:12] if entity not in present]
    elif kind == "adversarial":
        absent = [e for e in absent if any(e.type == other.type for other in present)] or absent
    cells = dict(zip(sorted(rng.sample(range(4), count)), present, strict=True))
    canvas = draw_things(factory, rng, cells, widths)
    return Scene.from_canvas(
        canvas,
        (("What things are in the image?", ", ".join(entity.name for entity in cells.values())),),
        QuestionSpec("", rng.choice(present).name, (rng.choice(absent).name,), "Is there {a} in the image?"),
    )
