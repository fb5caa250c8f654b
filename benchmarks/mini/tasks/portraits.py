"""One thing, flag or element tile that fills the picture: its name, its kind, its facts."""

from __future__ import annotations

import random

from benchmarks.mini.canvas import Canvas, adjusted
from benchmarks.mini.cards import news_card
from benchmarks.mini.phrasings import phrasing
from benchmarks.mini.tasks.base import QuestionSpec, Scene, apart
from benchmarks.mini.tasks.studio import KINDS, SceneFactory
from benchmarks.mini.world import Entity

ANIMAL, FOOD = "Is this an animal?", "Can you eat or drink this?"
TRAVEL, WEAR = "Can you travel in or on this?", "Is this something to wear?"
SENSE = {
    "animal": (ANIMAL, (WEAR,)),
    "vehicle": (TRAVEL, (ANIMAL, FOOD, WEAR)),
    "clothing": (WEAR, (ANIMAL, FOOD)),
    **dict.fromkeys(("fruit", "vegetable", "dish", "sweet", "drink"), (FOOD, (TRAVEL, WEAR))),
}
"""Type -> a commonsense question with the answer yes, and questions whose answer is no beyond doubt."""

GROUPS = ("mammal", "bird", "insect", "reptile", "fish")
"""Hypernyms of animals that exclude one another."""


def portrait(studio: SceneFactory, rng: random.Random, entity: Entity) -> Scene:
    """The entity in one of its drawings; asks 0 its name, 1 what kind of thing it is (not for countries)."""
    canvas = Canvas(rng)
    side = rng.choice((64, 64, 56))
    play = 64 - side
    if not play and entity.family == "concept" and rng.random() < 0.5:
        x, y = rng.randint(-3, 3), rng.randint(-3, 3)
    else:
        x, y = rng.randint(0, play), rng.randint(0, play)
    canvas.stamp(studio.any_icon(entity, rng, side), x, y, entity.name)
    pixels = adjusted(canvas.pixels, rng) if rng.random() < 0.4 else canvas.pixels
    looks = ((f"What is the name of the {entity.hypernym} in the image?", entity.name),)
    return Scene(pixels, canvas.labels, looks, (_name(studio, rng, entity), kind(studio, rng, entity)))


def _name(studio: SceneFactory, rng: random.Random, entity: Entity) -> QuestionSpec:
    if entity.family == "element":
        family, question, claim = studio.elements, "Which element is shown in the image?", "Is this the element {x}?"
    elif entity.family == "concept":
        family, question, claim = studio.concepts, "What is shown in the image?", "Is this {a}?"
    else:
        family = studio.countries
        question, claim = f"Which {entity.family} has this flag?", "Is this the flag of {x}?"
    same = [other.name for other in family if other.type == entity.type and other is not entity]
    rest = [other.name for other in family if other is not entity]
    wrong = apart(entity.name, same, 2, rng)
    more = [name for name in apart(entity.name, rest, 5, rng) if not any(_within(name, w) for w in wrong)]
    return QuestionSpec(question, entity.name, (*wrong, *more)[:3], claim)


def kind(studio: SceneFactory, rng: random.Random, entity: Entity) -> QuestionSpec:
    """What kind of thing it is."""
    answer = studio.kind(entity)
    wrong = apart(answer, KINDS, 3, rng)
    return QuestionSpec("What kind of thing is shown in the image?", answer, wrong, "Is this a kind of {x}?")


def fact(studio: SceneFactory, rng: random.Random, entity: Entity, field: str, value: str) -> QuestionSpec:
    """A field's value, with false values that other old entities have."""
    others = [other for other in studio.values[entity.family, field] if other != value]
    good = studio.asked(entity, field) == studio.question(entity, field)
    claim = f"Is the {field} of the {entity.hypernym} in this image {{x}}?" if good else ""
    return QuestionSpec(studio.asked(entity, field), value, apart(value, others, 3, rng), claim)


def report(studio: SceneFactory, rng: random.Random, entity: Entity, field: str) -> Scene:
    """A card in the archive's layout: a country's flag with the sign of a kind of dated statement; no asks."""
    sign = studio.sign(field)
    flag = studio.any_icon(entity, rng, 64)
    pixels = news_card(flag, studio.any_icon(sign, rng, 64) if sign else flag, "archive")
    return Scene(adjusted(pixels, rng), (None,) * 16, looks=((phrasing("country", "name").evaluation, entity.name),))


def sense(studio: SceneFactory, rng: random.Random) -> tuple[Scene, str, str]:
    """A portrait with two commonsense questions about it: one to answer with yes, one with no."""
    types = ("animal", "vehicle", "clothing", rng.choice(("fruit", "vegetable", "dish", "sweet", "drink")))
    wanted = rng.choice(types)
    entity = rng.choice([e for e in studio.concepts if e.type == wanted])
    yes, no = SENSE[entity.type]
    return portrait(studio, rng, entity), yes, rng.choice(no)


def living(studio: SceneFactory, rng: random.Random) -> tuple[Scene, QuestionSpec]:
    """A living thing and a question for its name or its group in biology."""
    entity = rng.choice([e for e in studio.concepts if e.hypernym in GROUPS or e.type in ("fruit", "vegetable")])
    scene = portrait(studio, rng, entity)
    if rng.random() < 0.4:
        return scene, scene.asks[0]
    group = entity.hypernym if entity.hypernym in GROUPS else entity.type
    others = [other for other in GROUPS if other != group]
    return scene, QuestionSpec("To which group does this living thing belong?", group, tuple(rng.sample(others, 3)))


def _within(one: str, other: str) -> bool:
    return one.lower() in other.lower() or other.lower() in one.lower()
