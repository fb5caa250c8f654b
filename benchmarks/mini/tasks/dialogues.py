"""mini-MMDU: two or three pictures and several turns about them."""

from __future__ import annotations

import random

from benchmarks.mini.prompts import IMAGE_PLACEHOLDER
from benchmarks.mini.tasks import portraits
from benchmarks.mini.tasks.base import TaskInstance, TaskRow
from benchmarks.mini.tasks.scene_factory import SceneFactory

ORDER = ("first", "second", "third")


def mmdu(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """MMDU: name each picture, then compare them by kind."""
    count = rng.randint(2, 3)
    shown = factory.sample_concepts(rng, count, difficulty)
    scenes = [portraits.portrait(factory, rng, entity) for entity in shown]
    pairs = [(f"What is shown in the {ORDER[i]} image?", entity.name) for i, entity in enumerate(shown)]
    rng.shuffle(pairs)
    target = rng.choice(shown)
    kind = factory.kind(target)
    if kind != "object" and sum(factory.kind(entity) == kind for entity in shown) == 1:
        pairs.append((f"Which of the things is a kind of {kind}?", target.name))
    else:
        position = ORDER[shown.index(target)]
        pairs.append((f"What kind of thing is shown in the {position} image?", kind))
    questions = [question for question, _ in pairs]
    questions[0] = IMAGE_PLACEHOLDER * count + questions[0]
    answers = [answer for _, answer in pairs]
    row = {"question": str(questions), "answer": str(answers)}
    return TaskInstance(
        "mmdu/compare",
        tuple(scene.picture for scene in scenes),
        tuple(scene.patches for scene in scenes),
        (),
        (TaskRow(row, tuple(answers)),),
    )
