"""Stage 2: the mixture of lessons."""

from __future__ import annotations

import random
from collections.abc import Callable

from benchmarks.mini.tasks import dialogue_forms, dialogues, general, instructions, knowledge, school
from benchmarks.mini.tasks.base import TaskInstance
from benchmarks.mini.tasks.scene_factory import SceneFactory

Form = Callable[[SceneFactory, random.Random, float], TaskInstance]


def _mme(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    return rng.choice(general.MME)(factory, rng, difficulty)


def _hallusion(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    return rng.choice(general.hallusion(factory, rng, difficulty))


def _mia(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    return instructions.compose(factory, rng)


FORM_WEIGHTS: dict[Form, int] = {
    dialogue_forms.about_things: 14,
    dialogue_forms.about_figures: 8,
    dialogue_forms.about_text: 10,
    dialogue_forms.about_charts: 8,
    knowledge.naming: 13,
    knowledge.facts: 14,
    knowledge.recall: 4,
    knowledge.news: 3,
    knowledge.description: 5,
    knowledge.recognition: 3,
    _mme: 8,
    general.mmbench: 6,
    general.pope: 4,
    _hallusion: 4,
    school.seedbench2_plus: 4,
    school.ocrvqa: 4,
    school.scienceqa: 5,
    school.mmmu: 5,
    school.mathvista: 4,
    school.mathvision: 3,
    _mia: 4,
    dialogues.mmdu: 4,
}


def sample_instance(factory: SceneFactory, rng: random.Random, progress: float) -> TaskInstance:
    """Sample one task instance; its difficulty (number of concepts, hard pictures) is the progress in [0, 1]."""
    return rng.choices(tuple(FORM_WEIGHTS), tuple(FORM_WEIGHTS.values()))[0](factory, rng, progress)
