"""Several questions about one picture, each in a form drawn at random: short, yes and no, multiple choice."""

from __future__ import annotations

import random

from benchmarks.mini.prompts import SHORT, choice
from benchmarks.mini.tasks import charts, figures, reading, things
from benchmarks.mini.tasks.base import QuestionSpec, Scene, TaskInstance, TaskRow
from benchmarks.mini.tasks.formats import YES_NO, claim, exercise, options
from benchmarks.mini.tasks.studio import SceneFactory


def over(task: str, scene: Scene, rng: random.Random, asks: int = 2) -> TaskInstance:
    """Up to ``asks`` of the scene's asks, each in a random form."""
    cases: list[TaskRow] = []
    for ask in rng.sample(scene.asks, min(asks, len(scene.asks))):
        cases += forms(ask, rng)
    return exercise(task, scene, cases)


def forms(ask: QuestionSpec, rng: random.Random) -> list[TaskRow]:
    """One or two turns that put the same ask."""
    form = rng.random()
    if form < 0.35 and ask.claim and ask.wrong:
        pairs = [(claim(ask, ask.answer) + YES_NO, "Yes"), (claim(ask, rng.choice(ask.wrong)) + YES_NO, "No")]
        rng.shuffle(pairs)
    elif form < 0.6 and len(ask.wrong) > 1:
        pairs = [(choice({"question": ask.question, **options(ask, rng)}).rstrip(), ask.answer)]
    else:
        pairs = [(ask.question + (SHORT if rng.random() < 0.4 else ""), ask.answer)]
    return [TaskRow({"question": question}, (answer,)) for question, answer in pairs]


def about_things(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """Scenes of things."""
    make = rng.choice((things.scene, things.scene, things.sides))
    scene = make(studio, rng, ease)
    return over("lesson/things", Scene(scene.picture, scene.patches, scene.looks, scene.asks[1:] or scene.asks), rng)


def about_figures(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """Shapes and colours."""
    return over("lesson/figures", rng.choice((figures.counted, figures.coloured))(rng, ease), rng)


def about_text(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """Words, numbers and sums."""
    kind = rng.choice(("word", "number", "card", "card", "sum", "sum"))
    if kind == "word":
        return over("lesson/text", reading.word(rng, ease), rng)
    return over(
        "lesson/text", {"number": reading.number, "card": reading.card, "sum": reading.addition}[kind](rng), rng
    )


def about_charts(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """Charts, tables, price lists and maps."""
    kind = rng.randrange(4)
    if kind == 0:
        scene = charts.bars(rng, charts.values(rng, ease))
    elif kind == 1:
        scene = charts.table(rng, ease)
    elif kind == 2:
        scene = charts.world_map(rng, ease)
    else:
        scene = charts.price_list(rng)
    return over("lesson/charts", scene, rng)
