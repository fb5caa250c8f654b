"""mini-MMDU: two or three pictures and several turns about them."""

from __future__ import annotations

import random

from benchmarks.mini.prompts import PLACE
from benchmarks.mini.tasks import portraits
from benchmarks.mini.tasks.base import TaskInstance, TaskRow
from benchmarks.mini.tasks.studio import SceneFactory

ORDER = ("first", "second", "third")


def mmdu(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """Name each picture, then compare two of them by kind."""
    count = rng.randint(2, 3)
    shown = studio.some_props(rng, count, ease)
    scenes = [portraits.portrait(studio, rng, entity) for entity in shown]
    pairs = [(f"What is shown in the {ORDER[i]} image?", entity.name) for i, entity in enumerate(shown)]
    rng.shuffle(pairs)
    one = rng.choice(shown)
    kind = studio.kind(one)
    if kind != "object" and sum(studio.kind(entity) == kind for entity in shown) == 1:
        pairs.append((f"Which of the things is a kind of {kind}?", one.name))
    else:
        place = ORDER[shown.index(one)]
        pairs.append((f"What kind of thing is shown in the {place} image?", kind))
    questions = [question for question, _ in pairs]
    questions[0] = PLACE * count + questions[0]
    answers = [answer for _, answer in pairs]
    row = {"question": str(questions), "answer": str(answers)}
    return TaskInstance(
        "mmdu/compare",
        tuple(scene.picture for scene in scenes),
        tuple(scene.patches for scene in scenes),
        (),
        (TaskRow(row, tuple(answers)),),
    )
