"""mini-MME, mini-MMBench, mini-POPE and mini-HallusionBench: existence, count, position, colour, text."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from benchmarks.mini.canvas import COLOURS
from benchmarks.mini.tasks import charts, figures, portraits, reading, things
from benchmarks.mini.tasks.base import QuestionSpec, Scene, TaskInstance, TaskRow
from benchmarks.mini.tasks.formats import YES_NO, circular, pair
from benchmarks.mini.tasks.scene_factory import SceneFactory

Form = Callable[[SceneFactory, random.Random, float], TaskInstance]
Twins = tuple[Sequence[Scene], Sequence[tuple[str, bool]]]
"""A figure and its edited twin, and claims, each with whether it is true of the first figure."""
TableEdit = Callable[[random.Random, float], Twins]


def _claims(category: str, draw: Callable[[SceneFactory, random.Random, float], Scene]) -> Form:
    """MME: one true and one false claim about a scene."""

    def form(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
        scene = draw(factory, rng, difficulty)
        return pair(f"mme/{category}", scene, scene.questions[0], rng)

    return form


def _word_or_number(factory: SceneFactory, rng: random.Random, difficulty: float) -> Scene:
    return reading.word(rng, difficulty) if rng.random() < 0.7 else reading.number(rng)


existence = _claims("existence", things.scene)
count = _claims("count", lambda factory, rng, difficulty: figures.counted(rng, difficulty))
position = _claims("position", things.sides)
color = _claims("color", lambda factory, rng, difficulty: figures.coloured(rng, difficulty))
ocr = _claims("OCR", _word_or_number)
calculation = _claims("numerical_calculation", lambda factory, rng, difficulty: reading.addition(rng))


def commonsense(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """MME: two commonsense questions on one portrait, one true and one false."""
    scene, yes, no = portraits.commonsense(factory, rng)
    rows = [TaskRow({"question": q + YES_NO, "answer": answer}, (answer,)) for q, answer in ((yes, "Yes"), (no, "No"))]
    rng.shuffle(rows)
    return TaskInstance.from_scene("mme/commonsense_reasoning", scene, rows)


MME: tuple[Form, ...] = (existence, count, position, color, ocr, calculation, commonsense)


def mmbench(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """MMBench: multiple choice over all simple abilities."""
    scene, spec, category, group = _ability(factory, rng, difficulty)
    return circular(f"mmbench/{category}", scene, spec, rng, {"category": category, "l2-category": group})


def _ability(factory: SceneFactory, rng: random.Random, difficulty: float) -> tuple[Scene, QuestionSpec, str, str]:
    fine = "finegrained_perception (instance-level)"
    choice = rng.randrange(6)
    if choice == 0:
        scene = things.scene(factory, rng, difficulty)
        return scene, scene.questions[rng.choice((1, 2))], "object_localization", fine
    if choice == 1:
        scene = figures.coloured(rng, difficulty)
        return scene, scene.questions[rng.choice((0, 1))], "attribute_recognition", fine
    if choice == 2:
        scene = reading.word(rng, difficulty)
        return scene, scene.questions[0], "ocr", fine
    if choice == 3:
        scene = figures.counted(rng, difficulty)
        return scene, scene.questions[0], "counting", fine
    scene = portraits.portrait(factory, rng, rng.choice(factory.scene_concepts))
    if choice == 4:
        return scene, scene.questions[0], "object_naming", "coarse_perception"
    return scene, scene.questions[1], "object_kind", "logic_reasoning"


def pope(
    factory: SceneFactory, rng: random.Random, difficulty: float, widths: Sequence[int] = things.WIDTHS
) -> TaskInstance:
    """POPE: whether a thing is in the scene; absent things are random, popular, or similar to those shown.

    A thing is as wide as one of ``widths``, in pixels.
    """
    kind = rng.choice(("random", "popular", "adversarial"))
    scene = things.presence(factory, rng, difficulty, kind, widths)
    return pair(f"pope/{kind}", scene, scene.questions[0], rng, {"category": kind})


def recoloured_disc(rng: random.Random, difficulty: float) -> Twins:
    """A table and one in which a disc has another colour, which the first does not show."""
    colour, new, other = rng.sample(list(COLOURS), 3)
    digit, other_digit = rng.sample(range(1, 10), 2)
    scenes = [charts.table(rng, difficulty, {paint: digit, other: other_digit}) for paint in (colour, new)]
    claims = [(f"Is {paint} next to the number {digit}?", paint == colour) for paint in (colour, new)]
    return scenes, claims


def swapped_digits(rng: random.Random, difficulty: float) -> Twins:
    """A table of two rows and one with the digits exchanged."""
    one, two = rng.sample(list(COLOURS), 2)
    digits = rng.sample(range(1, 10), 2)
    tables = ({one: digits[0], two: digits[1]}, {one: digits[1], two: digits[0]})
    claims = [(f"Is the number next to the {one} circle {digit}?", digit == digits[0]) for digit in digits]
    return [charts.table(rng, difficulty, rows) for rows in tables], claims


def _swapped_bars(rng: random.Random, difficulty: float) -> Twins:
    """A bar chart and one in which the highest and the lowest bar exchange their heights."""
    first = charts.values(rng, difficulty)
    ordered = sorted(first, key=lambda name: first[name])
    low, high = ordered[0], ordered[-1]
    second = {**first, low: first[high], high: first[low]}
    claims = [(f"Is the {bar} bar the highest?", bar == high) for bar in (low, high)]
    return [charts.bars(rng, heights) for heights in (first, second)], claims


def _moved_paint(rng: random.Random, difficulty: float) -> Twins:
    """A map with one coloured continent and one with another."""
    place, other = rng.sample(list(charts.CONTINENTS), 2)
    colour = rng.choice(list(COLOURS))
    claims = [(f"Is {name} {colour} on the map?", name == place) for name in (place, other)]
    return [charts.world_map(rng, difficulty, {name: colour}) for name in (place, other)], claims


def hallusion(
    factory: SceneFactory, rng: random.Random, difficulty: float, edit: TableEdit = swapped_digits
) -> tuple[TaskInstance, TaskInstance]:
    """HallusionBench: a figure and its edited twin; the same two questions have opposite answers.

    ``edit`` draws a table and its twin.
    """
    kind = rng.choice(("chart", "table", "map"))
    draw = {"chart": _swapped_bars, "table": edit, "map": _moved_paint}[kind]
    scenes, claims = draw(rng, difficulty)
    instances = []
    for figure, scene in enumerate(scenes):
        rows = []
        for question, (text, true_of_first) in enumerate(claims):
            answer = "Yes" if true_of_first is (figure == 0) else "No"
            ids = {"figure_id": str(figure + 1), "question_id": str(question), "l2-category": kind, "category": "VS"}
            rows.append(TaskRow({"question": text + YES_NO, "answer": answer, **ids}, (answer,)))
        instances.append(TaskInstance.from_scene(f"hallusionbench/{kind}", scene, rows))
    return instances[0], instances[1]
