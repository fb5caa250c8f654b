"""Stage 2: what a lesson is about, and how often."""

from __future__ import annotations

import random
from collections.abc import Callable

from benchmarks.mini.tasks import dialogues, general, instructions, knowledge, school, talk
from benchmarks.mini.tasks.base import TaskInstance
from benchmarks.mini.tasks.studio import SceneFactory

Form = Callable[[SceneFactory, random.Random, float], TaskInstance]


def _mme(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    return rng.choice(general.MME)(studio, rng, ease)


def _hallusion(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    return rng.choice(general.hallusion(studio, rng, ease))


def _mia(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    return instructions.composed(studio, rng)


MIX: dict[Form, int] = {
    talk.about_things: 14,
    talk.about_figures: 8,
    talk.about_text: 10,
    talk.about_charts: 8,
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
"""Form -> weight."""

_FORMS, _WEIGHTS = tuple(MIX), tuple(MIX.values())


def draw(studio: SceneFactory, rng: random.Random, progress: float) -> TaskInstance:
    """One exercise; what it needs (few or many concepts, pictures easy or hard) follows progress in [0, 1]."""
    return rng.choices(_FORMS, _WEIGHTS)[0](studio, rng, progress)
