"""mini-MME, mini-MMBench and mini-POPE: what is there, how many, where, of what colour, what it says."""

from __future__ import annotations

import random
from collections.abc import Callable

from benchmarks.mini.canvas import COLOURS
from benchmarks.mini.tasks import charts, figures, portraits, reading, things
from benchmarks.mini.tasks.base import QuestionSpec, Scene, TaskInstance, TaskRow
from benchmarks.mini.tasks.formats import YES_NO, circular, exercise, pair
from benchmarks.mini.tasks.studio import SceneFactory

Form = Callable[[SceneFactory, random.Random, float], TaskInstance]


def existence(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """MME: is a thing in the scene."""
    scene = things.scene(studio, rng, ease)
    return pair("mme/existence", scene, scene.asks[0], rng)


def count(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """MME: are there so many shapes."""
    scene = figures.counted(rng, ease)
    return pair("mme/count", scene, scene.asks[0], rng)


def position(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """MME: is a thing on that side."""
    scene = things.sides(studio, rng, ease)
    return pair("mme/position", scene, scene.asks[0], rng)


def color(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """MME: has a shape that colour."""
    scene = figures.coloured(rng, ease)
    return pair("mme/color", scene, scene.asks[0], rng)


def ocr(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """MME: is that the printed word or number."""
    scene = reading.word(rng, ease) if rng.random() < 0.7 else reading.number(rng)
    return pair("mme/OCR", scene, scene.asks[0], rng)


def calculation(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """MME: is that the result of the printed sum."""
    scene = reading.addition(rng)
    return pair("mme/numerical_calculation", scene, scene.asks[0], rng)


def commonsense(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """MME: two commonsense questions on one portrait, one true and one false."""
    scene, yes, no = portraits.sense(studio, rng)
    cases = [TaskRow({"question": text + YES_NO, "answer": says}, (says,)) for text, says in ((yes, "Yes"), (no, "No"))]
    rng.shuffle(cases)
    return exercise("mme/commonsense_reasoning", scene, cases)


MME: tuple[Form, ...] = (existence, count, position, color, ocr, calculation, commonsense)


def mmbench(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """MMBench: multiple choice over all simple abilities."""
    scene, ask, category, group = _ability(studio, rng, ease)
    return circular(f"mmbench/{category}", scene, ask, rng, {"category": category, "l2-category": group})


def _ability(studio: SceneFactory, rng: random.Random, ease: float) -> tuple[Scene, QuestionSpec, str, str]:
    choice = rng.randrange(6)
    if choice == 0:
        scene = things.scene(studio, rng, ease)
        return scene, scene.asks[rng.choice((1, 2))], "object_localization", "finegrained_perception (instance-level)"
    if choice == 1:
        scene = figures.coloured(rng, ease)
        return scene, scene.asks[rng.choice((0, 1))], "attribute_recognition", "finegrained_perception (instance-level)"
    if choice == 2:
        scene = reading.word(rng, ease)
        return scene, scene.asks[0], "ocr", "finegrained_perception (instance-level)"
    if choice == 3:
        scene = figures.counted(rng, ease)
        return scene, scene.asks[0], "counting", "finegrained_perception (instance-level)"
    scene = portraits.portrait(studio, rng, rng.choice(studio.props))
    if choice == 4:
        return scene, scene.asks[0], "object_naming", "coarse_perception"
    return scene, scene.asks[1], "object_kind", "logic_reasoning"


def pope(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """POPE: is a thing in the scene, false ones being random, popular, or like what is there."""
    kind = rng.choice(("random", "popular", "adversarial"))
    scene = things.presence(studio, rng, ease, kind)
    return pair(f"pope/{kind}", scene, scene.asks[0], rng, {"category": kind})


def hallusion(studio: SceneFactory, rng: random.Random, ease: float) -> tuple[TaskInstance, TaskInstance]:
    """HallusionBench: a figure and its edited twin; the same two questions have opposite answers."""
    kind = rng.choice(("chart", "table", "map"))
    if kind == "chart":
        first = charts.values(rng, ease)
        ordered = sorted(first, key=lambda name: first[name])
        low, high = ordered[0], ordered[-1]
        second = {**first, low: first[high], high: first[low]}
        scenes = (charts.bars(rng, first), charts.bars(rng, second))
        asks = [(f"Is the {a} bar the highest?", a == high) for a in (low, high)]
    elif kind == "table":
        one, two = rng.sample(list(COLOURS), 2)
        digits = rng.sample(range(1, 10), 2)
        rows = {one: digits[0], two: digits[1]}
        scenes = (charts.table(rng, ease, rows), charts.table(rng, ease, {one: digits[1], two: digits[0]}))
        asks = [(f"Is the number next to the {one} circle {d}?", d == digits[0]) for d in digits]
    else:
        place, other = rng.sample(list(charts.CONTINENTS), 2)
        colour = rng.choice(list(COLOURS))
        scenes = (charts.world_map(rng, ease, {place: colour}), charts.world_map(rng, ease, {other: colour}))
        asks = [(f"Is {p} {colour} on the map?", p == place) for p in (place, other)]
    made = []
    for figure, scene in enumerate(scenes):
        cases = []
        for question, (text, true_of_first) in enumerate(asks):
            says = "Yes" if true_of_first is (figure == 0) else "No"
            ids = {"figure_id": str(figure + 1), "question_id": str(question), "l2-category": kind, "category": "VS"}
            cases.append(TaskRow({"question": text + YES_NO, "answer": says, **ids}, (says,)))
        made.append(exercise(f"hallusionbench/{kind}", scene, cases))
    return made[0], made[1]
