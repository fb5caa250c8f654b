"""One thing, flag or element tile that fills the picture: its name, its kind, its facts."""

from __future__ import annotations

import random

from benchmarks.mini.canvas import Canvas, adjusted
from benchmarks.mini.cards import news_card
from benchmarks.mini.phrasings import phrasing
from benchmarks.mini.tasks.base import Ask, Scene, apart
from benchmarks.mini.tasks.studio import Studio
from benchmarks.mini.world import Entity

EDIBLE = ("fruit", "vegetable", "dish", "sweet", "drink")
SENSE = {
    "animal": ("Is this an animal?", ("animal",)),
    "food": ("Can you eat or drink this?", EDIBLE),
    "vehicle": ("Can you travel in or on this?", ("vehicle",)),
    "clothing": ("Is this something to wear?", ("clothing",)),
}
"""Commonsense questions and the types for which the answer is yes."""


def portrait(studio: Studio, rng: random.Random, entity: Entity) -> Scene:
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


def _name(studio: Studio, rng: random.Random, entity: Entity) -> Ask:
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
    return Ask(question, entity.name, (*wrong, *more)[:3], claim)


def kind(studio: Studio, rng: random.Random, entity: Entity) -> Ask:
    """What kind of thing it is: the type of a concept, the family of anything else."""
    answer = entity.type if entity.family == "concept" else entity.family
    wrong = apart(answer, studio.types, 3, rng)
    return Ask("What kind of thing is shown in the image?", answer, wrong, "Is this a kind of {x}?")


def fact(studio: Studio, rng: random.Random, entity: Entity, field: str, value: str) -> Ask:
    """A field's value, with false values that other old entities have."""
    others = [other for other in studio.values[entity.family, field] if other != value]
    good = studio.asked(entity, field) == studio.question(entity, field)
    claim = f"Is the {field} of the {entity.hypernym} in this image {{x}}?" if good else ""
    return Ask(studio.asked(entity, field), value, apart(value, others, 3, rng), claim)


def report(studio: Studio, rng: random.Random, entity: Entity, field: str) -> Scene:
    """A card in the archive's layout: a country's flag with the sign of a kind of dated statement; no asks."""
    sign = studio.sign(field)
    flag = studio.any_icon(entity, rng, 64)
    pixels = news_card(flag, studio.any_icon(sign, rng, 64) if sign else flag, "archive")
    return Scene(adjusted(pixels, rng), (None,) * 16, looks=((phrasing("country", "name").evaluation, entity.name),))


def sense(studio: Studio, rng: random.Random) -> tuple[Scene, str, bool]:
    """A portrait, a commonsense question about it, and whether the answer is yes (half of the time)."""
    question, types = SENSE[rng.choice(list(SENSE))]
    yes = rng.random() < 0.5
    known = {kind for _, kinds in SENSE.values() for kind in kinds}
    entity = rng.choice([e for e in studio.concepts if e.type in known and (e.type in types) is yes])
    return portrait(studio, rng, entity), question, yes


def _within(one: str, other: str) -> bool:
    return one.lower() in other.lower() or other.lower() in one.lower()
