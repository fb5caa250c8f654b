"""Stage 1: pictures with a label for each patch."""

from __future__ import annotations

import random
import string

from benchmarks.mini.canvas import COLOURS, SHAPES, Labels, Pixels
from benchmarks.mini.tasks import charts, figures, portraits, reading, things
from benchmarks.mini.tasks.base import Scene
from benchmarks.mini.tasks.scene_factory import SceneFactory

KINDS = ("concept", "country", "element", "scene", "text", "shapes", "count", "chart")
WEIGHTS = (30, 15, 6, 20, 12, 5, 4, 8)


def labelled_picture(factory: SceneFactory, rng: random.Random) -> tuple[Pixels, Labels]:
    """One picture and its 16 patch labels."""
    scene = _scene(factory, rng, rng.choices(KINDS, WEIGHTS)[0])
    return scene.picture, scene.patches


def _scene(factory: SceneFactory, rng: random.Random, kind: str) -> Scene:
    if kind == "concept":
        return portraits.portrait(factory, rng, rng.choice(factory.concepts))
    if kind == "country":
        return portraits.portrait(factory, rng, rng.choice(factory.countries))
    if kind == "element":
        return portraits.portrait(factory, rng, rng.choice(factory.elements))
    if kind == "scene":
        return things.scene(factory, rng, count=rng.randint(3, 4))
    if kind == "text":
        choice = rng.randrange(4)
        return (reading.word(rng), reading.card(rng), reading.addition(rng), charts.price_list(rng))[choice]
    if kind == "shapes":
        return figures.coloured(rng)
    if kind == "count":
        return figures.counted(rng)
    choice = rng.randrange(3)
    return (charts.bars(rng, charts.values(rng)), charts.table(rng), charts.world_map(rng))[choice]


def label_names(factory: SceneFactory) -> tuple[str, ...]:
    """Every label that a patch may have, sorted."""
    entities = (*factory.concepts, *factory.countries, *factory.elements)
    signs = (*string.ascii_uppercase, *string.digits, "+", "-", "=")
    return tuple(
        sorted({entity.name for entity in entities} | set(signs) | set(COLOURS) | set(SHAPES) | set(charts.CONTINENTS))
    )
