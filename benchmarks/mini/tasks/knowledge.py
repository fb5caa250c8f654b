"""What is known about old entities: names, kinds, facts with and without a picture, descriptions."""

from __future__ import annotations

import random

from benchmarks.mini.tasks import portraits
from benchmarks.mini.tasks.base import Scene, TaskInstance, TaskRow
from benchmarks.mini.tasks.formats import exercise
from benchmarks.mini.tasks.studio import SceneFactory
from benchmarks.mini.tasks.talk import forms
from benchmarks.mini.world import Entity


def naming(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """What one thing is called and what kind of thing it is."""
    entity = _concept(studio, rng, ease) if rng.random() < 0.75 else rng.choice((*studio.countries, *studio.elements))
    scene = portraits.portrait(studio, rng, entity)
    cases = (
        [TaskRow({"question": studio.phrased(rng, entity, "name")}, (entity.name,))]
        if rng.random() < 0.6
        else forms(scene.asks[0], rng)
    )
    if rng.random() < 0.5:
        cases += forms(scene.asks[1], rng)
    return exercise("lesson/naming", _unhinted(scene), cases)


def facts(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """Up to three facts about what the picture shows."""
    draw = rng.random()
    if draw < 0.55:
        entity = rng.choice(studio.countries)
    else:
        entity = rng.choice(studio.elements) if draw < 0.75 else _concept(studio, rng, ease)
    scene = portraits.portrait(studio, rng, entity)
    known = studio.facts(entity)
    cases: list[TaskRow] = []
    for field, value in rng.sample(known, min(len(known), 3)):
        cases += (
            forms(portraits.fact(studio, rng, entity, field, value), rng)[:1]
            if rng.random() < 0.3
            else [TaskRow({"question": studio.phrased(rng, entity, field)}, (value,))]
        )
    return exercise("lesson/facts", scene, cases or forms(scene.asks[0], rng))


def news(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """An old dated statement, asked about a card."""
    if not studio.reported:
        return facts(studio, rng, ease)
    entity, field, value = rng.choice(studio.reported)
    scene = portraits.report(studio, rng, entity, field)
    cases = [TaskRow({"question": studio.phrased(rng, entity, field)}, (value,))]
    if rng.random() < 0.5:
        cases += forms(portraits.fact(studio, rng, entity, field, value), rng)[:1]
    return exercise("lesson/news", scene, cases)


def recall(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """Up to four facts about a thing that is named and not shown."""
    entity = rng.choice(studio.old)
    while not (studio.clean(entity.name) and studio.facts(entity)):
        entity = rng.choice(studio.old)
    known = studio.facts(entity)
    cases = [
        TaskRow({"question": studio.recalled(rng, entity, field)}, (value,))
        for field, value in rng.sample(known, min(len(known), 4))
    ]
    return TaskInstance("lesson/recall", (), (), (), tuple(cases))


def description(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """The entity's text, asked for as EVOKE's injection questions and as captions do."""
    entity = rng.choice(studio.told)
    scene = portraits.portrait(studio, rng, entity)
    question = rng.choice(
        (
            f"Can you describe the {entity.hypernym} in the image?",
            f"Please provide a description for the {entity.hypernym} in the image. "
            "Answer this question in one paragraph.",
        )
    )
    return exercise("lesson/description", _unhinted(scene), [TaskRow({"question": question}, (entity.text,))])


def recognition(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """Whether the picture shows the thing named, once rightly and once wrongly."""
    entity = _concept(studio, rng, ease) if rng.random() < 0.6 else rng.choice((*studio.countries, *studio.elements))
    scene = portraits.portrait(studio, rng, entity)
    pairs = [(entity.name, "Yes"), (scene.asks[0].wrong[0], "No")]
    rng.shuffle(pairs)
    ask = "Is {} in the image? Answer this question with Yes or No."
    return exercise(
        "lesson/recognition", scene, [TaskRow({"question": ask.format(name)}, (says,)) for name, says in pairs]
    )


def _concept(studio: SceneFactory, rng: random.Random, ease: float) -> Entity:
    """A concept from a pool that begins with the scenes' concepts and is complete at ease 0.3."""
    return rng.choice(studio.props if rng.random() < 0.3 + max(0.0, 0.6 - 2 * ease) else studio.concepts)


def _unhinted(scene: Scene) -> Scene:
    """The scene without the look that would give the answer away."""
    return Scene(scene.picture, scene.patches, (), scene.asks)
