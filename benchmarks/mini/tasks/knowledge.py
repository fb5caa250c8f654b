"""Knowledge about old entities: names, kinds, facts with and without a picture, descriptions."""

from __future__ import annotations

import random
from dataclasses import replace

from benchmarks.mini.tasks import portraits
from benchmarks.mini.tasks.base import TaskInstance, TaskRow
from benchmarks.mini.tasks.dialogue_forms import random_form
from benchmarks.mini.tasks.scene_factory import SceneFactory
from benchmarks.mini.world import Entity


def naming(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """The name and the kind of one thing."""
    entity = (
        _concept(factory, rng, difficulty)
        if rng.random() < 0.75
        else rng.choice((*factory.countries, *factory.elements))
    )
    scene = portraits.portrait(factory, rng, entity)
    rows = (
        [TaskRow({"question": factory.varied_question(rng, entity, "name")}, (entity.name,))]
        if rng.random() < 0.6
        else random_form(scene.questions[0], rng)
    )
    if rng.random() < 0.5:
        rows += random_form(scene.questions[1], rng)
    return TaskInstance.from_scene(
        "lesson/naming", replace(scene, captions=()), rows
    )  # captions would give the answer away


def facts(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """Up to three facts about the entity in the picture."""
    draw = rng.random()
    if draw < 0.55:
        entity = rng.choice(factory.countries)
    else:
        entity = rng.choice(factory.elements) if draw < 0.75 else _concept(factory, rng, difficulty)
    scene = portraits.portrait(factory, rng, entity)
    old_facts = factory.old_facts(entity)
    rows: list[TaskRow] = []
    for field, value in rng.sample(old_facts, min(len(old_facts), 3)):
        rows += (
            random_form(portraits.fact_question(factory, rng, entity, field, value), rng)[:1]
            if rng.random() < 0.3
            else [TaskRow({"question": factory.varied_question(rng, entity, field)}, (value,))]
        )
    return TaskInstance.from_scene("lesson/facts", scene, rows or random_form(scene.questions[0], rng))


def news(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """A question about a card with an old dated statement."""
    if not factory.old_statements:
        return facts(factory, rng, difficulty)
    entity, field, value = rng.choice(factory.old_statements)
    scene = portraits.statement_card(factory, rng, entity, field)
    rows = [TaskRow({"question": factory.varied_question(rng, entity, field)}, (value,))]
    if rng.random() < 0.5:
        rows += random_form(portraits.fact_question(factory, rng, entity, field, value), rng)[:1]
    return TaskInstance.from_scene("lesson/news", scene, rows)


def recall(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """Up to four facts about an entity that is named instead of shown."""
    entity = rng.choice(factory.old_entities)
    while not (factory.is_clean(entity.name) and factory.old_facts(entity)):
        entity = rng.choice(factory.old_entities)
    old_facts = factory.old_facts(entity)
    rows = [
        TaskRow({"question": factory.recall_question(rng, entity, field)}, (value,))
        for field, value in rng.sample(old_facts, min(len(old_facts), 4))
    ]
    return TaskInstance("lesson/recall", (), (), (), tuple(rows))


def description(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """The entity's text, asked for like EVOKE's injection questions and like captions."""
    entity = rng.choice(factory.described)
    scene = portraits.portrait(factory, rng, entity)
    question = rng.choice(
        (
            f"Can you describe the {entity.hypernym} in the image?",
            f"Please provide a description for the {entity.hypernym} in the image. "
            "Answer this question in one paragraph.",
        )
    )
    row = TaskRow({"question": question}, (entity.text,))
    return TaskInstance.from_scene("lesson/description", replace(scene, captions=()), [row])


def recognition(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """Whether the picture shows the named thing: one right and one wrong name."""
    entity = (
        _concept(factory, rng, difficulty)
        if rng.random() < 0.6
        else rng.choice((*factory.countries, *factory.elements))
    )
    scene = portraits.portrait(factory, rng, entity)
    pairs = [(entity.name, "Yes"), (scene.questions[0].distractors[0], "No")]
    rng.shuffle(pairs)
    question = "Is {} in the image? Answer this question with Yes or No."
    rows = [TaskRow({"question": question.format(name)}, (answer,)) for name, answer in pairs]
    return TaskInstance.from_scene("lesson/recognition", scene, rows)


def _concept(factory: SceneFactory, rng: random.Random, difficulty: float) -> Entity:
    """A concept from a pool that starts with the scenes' concepts and is complete at difficulty 0.3."""
    common = rng.random() < 0.3 + max(0.0, 0.6 - 2 * difficulty)
    return rng.choice(factory.scene_concepts if common else factory.concepts)
