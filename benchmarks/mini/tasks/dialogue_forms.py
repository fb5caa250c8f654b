"""Several questions about one picture, each in a random form: short, yes/no, multiple choice."""

from __future__ import annotations

import random
from dataclasses import replace

from benchmarks.mini.prompts import SHORT, choice_prompt
from benchmarks.mini.tasks import charts, figures, reading, things
from benchmarks.mini.tasks.base import QuestionSpec, Scene, TaskInstance, TaskRow
from benchmarks.mini.tasks.formats import YES_NO, claim, options
from benchmarks.mini.tasks.scene_factory import SceneFactory


def ask_about(task: str, scene: Scene, rng: random.Random, count: int = 2) -> TaskInstance:
    """Ask up to ``count`` of the scene's questions, each in a random form."""
    rows: list[TaskRow] = []
    for spec in rng.sample(scene.questions, min(count, len(scene.questions))):
        rows += random_form(spec, rng)
    return TaskInstance.from_scene(task, scene, rows)


def random_form(spec: QuestionSpec, rng: random.Random) -> list[TaskRow]:
    """Ask one question in a random form, in one or two turns."""
    form = rng.random()
    if form < 0.35 and spec.claim and spec.distractors:
        pairs = [(claim(spec, spec.answer) + YES_NO, "Yes"), (claim(spec, rng.choice(spec.distractors)) + YES_NO, "No")]
        rng.shuffle(pairs)
    elif form < 0.6 and len(spec.distractors) > 1:
        pairs = [(choice_prompt({"question": spec.question, **options(spec, rng)}).rstrip(), spec.answer)]
    else:
        pairs = [(spec.question + (SHORT if rng.random() < 0.4 else ""), spec.answer)]
    return [TaskRow({"question": question}, (answer,)) for question, answer in pairs]


def about_things(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """Scenes of things."""
    make = rng.choice((things.scene, things.scene, things.sides))
    scene = make(factory, rng, difficulty)
    return ask_about("lesson/things", replace(scene, questions=scene.questions[1:] or scene.questions), rng)


def about_figures(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """Shapes and colours."""
    return ask_about("lesson/figures", rng.choice((figures.counted, figures.coloured))(rng, difficulty), rng)


def about_text(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """Words, numbers and sums."""
    kind = rng.choice(("word", "number", "card", "card", "sum", "sum"))
    if kind == "word":
        return ask_about("lesson/text", reading.word(rng, difficulty), rng)
    return ask_about(
        "lesson/text", {"number": reading.number, "card": reading.card, "sum": reading.addition}[kind](rng), rng
    )


def about_charts(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """Charts, tables, price lists and maps."""
    kind = rng.randrange(4)
    if kind == 0:
        scene = charts.bars(rng, charts.values(rng, difficulty))
    elif kind == 1:
        scene = charts.table(rng, difficulty)
    elif kind == 2:
        scene = charts.world_map(rng, difficulty)
    else:
        scene = charts.price_list(rng)
    return ask_about("lesson/charts", scene, rng)
