"""Stage 1: pictures whose patches are to be named."""

from __future__ import annotations

import random
import string

from benchmarks.mini.canvas import COLOURS, SHAPES, Labels, Pixels
from benchmarks.mini.tasks import charts, figures, portraits, reading, things
from benchmarks.mini.tasks.base import Scene
from benchmarks.mini.tasks.studio import SceneFactory

KINDS = ("concept", "country", "element", "scene", "text", "shapes", "count", "chart")
WEIGHTS = (30, 15, 6, 20, 12, 5, 4, 8)


def look(studio: SceneFactory, rng: random.Random) -> tuple[Pixels, Labels]:
    """One picture and its 16 patch labels."""
    scene = _scene(studio, rng, rng.choices(KINDS, WEIGHTS)[0])
    return scene.picture, scene.patches


def _scene(studio: SceneFactory, rng: random.Random, kind: str) -> Scene:
    if kind == "concept":
        return portraits.portrait(studio, rng, rng.choice(studio.concepts))
    if kind == "country":
        return portraits.portrait(studio, rng, rng.choice(studio.countries))
    if kind == "element":
        return portraits.portrait(studio, rng, rng.choice(studio.elements))
    if kind == "scene":
        return things.scene(studio, rng, count=rng.randint(3, 4))
    if kind == "text":
        made = rng.randrange(4)
        return (reading.word(rng), reading.card(rng), reading.addition(rng), charts.price_list(rng))[made]
    if kind == "shapes":
        return figures.coloured(rng)
    if kind == "count":
        return figures.counted(rng)
    made = rng.randrange(3)
    return (charts.bars(rng, charts.values(rng)), charts.table(rng), charts.world_map(rng))[made]


def names(studio: SceneFactory) -> tuple[str, ...]:
    """Every label that a patch may have, sorted."""
    entities = (*studio.concepts, *studio.countries, *studio.elements)
    signs = (*string.ascii_uppercase, *string.digits, "+", "-", "=")
    return tuple(
        sorted({entity.name for entity in entities} | set(signs) | set(COLOURS) | set(SHAPES) | set(charts.CONTINENTS))
    )
