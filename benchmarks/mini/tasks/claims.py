"""Stage 3's yes/no training: one claim about one picture.

Comparing a word with a picture is one bit of information that no other answer gives away, and a small model never
learns it from longer lessons. On its own, starting with properties that have few values, it is learnt within a hundred
steps; the kinds of claims are then added one by one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from benchmarks.mini.tasks import charts, figures, general, knowledge, reading, things
from benchmarks.mini.tasks.base import QuestionSpec, Scene, TaskInstance, TaskRow
from benchmarks.mini.tasks.formats import YES_NO, claim
from benchmarks.mini.tasks.scene_factory import SceneFactory

Kind = Callable[[SceneFactory, random.Random], TaskInstance]


def _presence(count: int) -> Kind:
    """Whether a thing is among ``count`` things."""
    return lambda factory, rng: _about((scene := things.scene(factory, rng, 1.0, count)), scene.questions[:1], rng)


def _hallusion(factory: SceneFactory, rng: random.Random) -> TaskInstance:
    return rng.choice(general.hallusion(factory, rng, 1.0))


def _anything(factory: SceneFactory, rng: random.Random) -> TaskInstance:
    """A claim about a scene, a chart or a card."""
    scene = rng.choice(
        (
            lambda: things.scene(factory, rng, 1.0),
            lambda: figures.coloured(rng, 1.0),
            lambda: reading.card(rng),
            lambda: charts.bars(rng, charts.values(rng, 1.0)),
            lambda: charts.table(rng, 1.0),
            lambda: charts.world_map(rng, 1.0),
        )
    )()
    return _about(scene, scene.questions, rng)


KINDS: tuple[tuple[float, int, Kind], ...] = (
    (0.0, 1, lambda factory, rng: general.color(factory, rng, 0.0)),
    (0.04, 2, lambda factory, rng: general.color(factory, rng, 1.0)),
    (0.05, 1, _presence(1)),
    (0.07, 3, lambda factory, rng: knowledge.recognition(factory, rng, 1.0)),
    (0.09, 1, _presence(2)),
    (0.11, 3, lambda factory, rng: general.existence(factory, rng, 1.0)),
    (0.13, 4, lambda factory, rng: general.pope(factory, rng, 1.0)),
    (0.15, 3, lambda factory, rng: general.position(factory, rng, 1.0)),
    (0.17, 4, _hallusion),
    (0.19, 3, lambda factory, rng: general.count(factory, rng, 1.0)),
    (0.21, 3, lambda factory, rng: general.ocr(factory, rng, 1.0)),
    (0.22, 3, lambda factory, rng: general.calculation(factory, rng, 1.0)),
    (0.23, 2, lambda factory, rng: general.commonsense(factory, rng, 1.0)),
    (0.24, 3, _anything),
)
"""(progress from which it is used, weight, kind)."""


def sample_claim(factory: SceneFactory, rng: random.Random, progress: float) -> TaskInstance:
    """Sample one claim, true or false with equal probability, without the picture's other questions."""
    active = [(weight, kind) for start, weight, kind in KINDS if start <= progress]
    instance = rng.choices([kind for _, kind in active], [weight for weight, _ in active])[0](factory, rng)
    return replace(instance, captions=(), rows=(rng.choice(instance.rows),))


def _about(scene: Scene, specs: tuple[QuestionSpec, ...], rng: random.Random) -> TaskInstance:
    spec, true = rng.choice([spec for spec in specs if spec.claim and spec.distractors]), rng.random() < 0.5
    question = claim(spec, spec.answer if true else rng.choice(spec.distractors)) + YES_NO
    return TaskInstance.from_scene("lesson/claim", scene, [TaskRow({"question": question}, ("Yes" if true else "No",))])
