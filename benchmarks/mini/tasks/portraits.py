"""One thing, flag or element tile that fills the picture: its name, its kind, its facts."""

from __future__ import annotations

import random

from benchmarks.mini.canvas import Canvas, jitter
from benchmarks.mini.cards import news_card
from benchmarks.mini.phrasings import phrasing
from benchmarks.mini.tasks.base import QuestionSpec, Scene, sample_distractors
from benchmarks.mini.tasks.scene_factory import KINDS, SceneFactory
from benchmarks.mini.world import Entity

ANIMAL = "Is this an animal?"
FOOD = "Can you eat or drink this?"
TRAVEL = "Can you travel in or on this?"
WEAR = "Is this something to wear?"
COMMONSENSE = {
    "animal": (ANIMAL, (WEAR,)),
    "vehicle": (TRAVEL, (ANIMAL, FOOD, WEAR)),
    "clothing": (WEAR, (ANIMAL, FOOD)),
    **dict.fromkeys(("fruit", "vegetable", "dish", "sweet", "drink"), (FOOD, (TRAVEL, WEAR))),
}
"""Type -> a commonsense question whose answer is yes, and questions whose answer is clearly no."""

GROUPS = ("mammal", "bird", "insect", "reptile", "fish")
"""Mutually exclusive hypernyms of animals."""


def portrait(factory: SceneFactory, rng: random.Random, entity: Entity) -> Scene:
    """The entity in one of its drawings; questions: 0 its name, 1 its kind (not for countries)."""
    canvas = Canvas(rng)
    side = rng.choice((64, 64, 56))
    play = 64 - side
    if not play and entity.family == "concept" and rng.random() < 0.5:
        x, y = rng.randint(-3, 3), rng.randint(-3, 3)
    else:
        x, y = rng.randint(0, play), rng.randint(0, play)
    canvas.stamp(factory.random_icon(entity, rng, side), x, y, entity.name)
    pixels = jitter(canvas.pixels, rng) if rng.random() < 0.4 else canvas.pixels
    captions = ((f"What is the name of the {entity.hypernym} in the image?", entity.name),)
    questions = (_name_question(factory, rng, entity), _kind_question(factory, rng, entity))
    return Scene(pixels, canvas.labels, captions, questions)


def _name_question(factory: SceneFactory, rng: random.Random, entity: Entity) -> QuestionSpec:
    if entity.family == "element":
        family, question, claim = factory.elements, "Which element is shown in the image?", "Is this the element {x}?"
    elif entity.family == "concept":
        family, question, claim = factory.concepts, "What is shown in the image?", "Is this {a}?"
    else:
        family = factory.countries
        question, claim = f"Which {entity.family} has this flag?", "Is this the flag of {x}?"
    same = [other.name for other in family if other.type == entity.type and other is not entity]
    rest = [other.name for other in family if other is not entity]
    near = sample_distractors(entity.name, same, 2, rng)
    far = [name for name in sample_distractors(entity.name, rest, 5, rng) if not any(_overlap(name, n) for n in near)]
    return QuestionSpec(question, entity.name, (*near, *far)[:3], claim)


def _kind_question(factory: SceneFactory, rng: random.Random, entity: Entity) -> QuestionSpec:
    answer = factory.kind(entity)
    distractors = sample_distractors(answer, KINDS, 3, rng)
    return QuestionSpec("What kind of thing is shown in the image?", answer, distractors, "Is this a kind of {x}?")


def fact_question(factory: SceneFactory, rng: random.Random, entity: Entity, field: str, value: str) -> QuestionSpec:
    """The value of a field; the distractors are values of other old entities."""
    others = [other for other in factory.old_values[entity.family, field] if other != value]
    question = factory.benchmark_question(entity, field)
    plain = question == factory.plain_question(entity, field)
    claim = f"Is the {field} of the {entity.hypernym} in this image {{x}}?" if plain else ""
    return QuestionSpec(question, value, sample_distractors(value, others, 3, rng), claim)


def statement_card(factory: SceneFactory, rng: random.Random, entity: Entity, field: str) -> Scene:
    """A card in the archive layout: a country's flag and the sign of a kind of dated statement; no questions."""
    sign = factory.sign(field)
    flag = factory.random_icon(entity, rng, 64)
    pixels = news_card(flag, factory.random_icon(sign, rng, 64) if sign else flag, "archive")
    return Scene(jitter(pixels, rng), (None,) * 16, captions=((phrasing("country", "name").evaluation, entity.name),))


def commonsense(factory: SceneFactory, rng: random.Random) -> tuple[Scene, str, str]:
    """A portrait and two commonsense questions: one with the answer yes, one with no."""
    types = ("animal", "vehicle", "clothing", rng.choice(("fruit", "vegetable", "dish", "sweet", "drink")))
    chosen = rng.choice(types)
    entity = rng.choice([e for e in factory.concepts if e.type == chosen])
    yes, no = COMMONSENSE[entity.type]
    return portrait(factory, rng, entity), yes, rng.choice(no)


def living_thing(factory: SceneFactory, rng: random.Random) -> tuple[Scene, QuestionSpec]:
    """A living thing and a question about its name or its biological group."""
    entity = rng.choice([e for e in factory.concepts if e.hypernym in GROUPS or e.type in ("fruit", "vegetable")])
    scene = portrait(factory, rng, entity)
    if rng.random() < 0.4:
        return scene, scene.questions[0]
    group = entity.hypernym if entity.hypernym in GROUPS else entity.type
    others = [other for other in GROUPS if other != group]
    return scene, QuestionSpec("To which group does this living thing belong?", group, tuple(rng.sample(others, 3)))


def _overlap(one: str, other: str) -> bool:
    return one.lower() in other.lower() or other.lower() in one.lower()
