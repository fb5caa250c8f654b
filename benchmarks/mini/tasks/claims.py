"""Stage 3's drill of yes and no: one claim about one picture.

Comparing a word with a picture is one bit that no other answer hints at, and among longer lessons a small model never
finds it. Alone, and beginning with what has few values, it is learnt within a hundred steps; each kind of claim then
joins those before it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from benchmarks.mini.tasks import charts, figures, general, knowledge, reading, things
from benchmarks.mini.tasks.base import QuestionSpec, Scene, TaskInstance, TaskRow
from benchmarks.mini.tasks.formats import YES_NO, claim, exercise
from benchmarks.mini.tasks.studio import SceneFactory

Kind = Callable[[SceneFactory, random.Random], TaskInstance]


def _presence(count: int) -> Kind:
    """Is a thing among ``count`` things."""
    return lambda studio, rng: _about((scene := things.scene(studio, rng, 1.0, count)), scene.asks[:1], rng)


def _hallusion(studio: SceneFactory, rng: random.Random) -> TaskInstance:
    return rng.choice(general.hallusion(studio, rng, 1.0))


def _anything(studio: SceneFactory, rng: random.Random) -> TaskInstance:
    """Any claim about a scene, a chart or a card."""
    scene = rng.choice(
        (
            lambda: things.scene(studio, rng, 1.0),
            lambda: figures.coloured(rng, 1.0),
            lambda: reading.card(rng),
            lambda: charts.bars(rng, charts.values(rng, 1.0)),
            lambda: charts.table(rng, 1.0),
            lambda: charts.world_map(rng, 1.0),
        )
    )()
    return _about(scene, scene.asks, rng)


KINDS: tuple[tuple[float, int, Kind], ...] = (
    (0.0, 1, lambda studio, rng: general.color(studio, rng, 0.0)),
    (0.04, 2, lambda studio, rng: general.color(studio, rng, 1.0)),
    (0.05, 1, _presence(1)),
    (0.07, 3, lambda studio, rng: knowledge.recognition(studio, rng, 1.0)),
    (0.09, 1, _presence(2)),
    (0.11, 3, lambda studio, rng: general.existence(studio, rng, 1.0)),
    (0.13, 4, lambda studio, rng: general.pope(studio, rng, 1.0)),
    (0.15, 3, lambda studio, rng: general.position(studio, rng, 1.0)),
    (0.17, 4, _hallusion),
    (0.19, 3, lambda studio, rng: general.count(studio, rng, 1.0)),
    (0.21, 3, lambda studio, rng: general.ocr(studio, rng, 1.0)),
    (0.22, 3, lambda studio, rng: general.calculation(studio, rng, 1.0)),
    (0.23, 2, lambda studio, rng: general.commonsense(studio, rng, 1.0)),
    (0.24, 3, _anything),
)
"""From which part of the stage on, how often, what."""


def draw(studio: SceneFactory, rng: random.Random, progress: float) -> TaskInstance:
    """One claim, true or false by even chance; the picture's other questions are left out."""
    known = [(weight, kind) for start, weight, kind in KINDS if start <= progress]
    whole = rng.choices([kind for _, kind in known], [weight for weight, _ in known])[0](studio, rng)
    case = rng.choice(whole.cases)
    return TaskInstance(whole.task, whole.pictures, whole.patches, (), (case,))


def _about(scene: Scene, asks: tuple[QuestionSpec, ...], rng: random.Random) -> TaskInstance:
    ask, true = rng.choice([ask for ask in asks if ask.claim and ask.wrong]), rng.random() < 0.5
    question = claim(ask, ask.answer if true else rng.choice(ask.wrong)) + YES_NO
    return exercise("lesson/claim", scene, [TaskRow({"question": question}, ("Yes" if true else "No",))])
