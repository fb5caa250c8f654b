"""mini-SEEDBench2_Plus, mini-OCRVQA, mini-ScienceQA, mini-MMMU, mini-MathVista and mini-MathVision."""

from __future__ import annotations

import random

from benchmarks.mini.tasks import charts, figures, portraits, reading, things
from benchmarks.mini.tasks.base import QuestionSpec, Scene, TaskInstance, TaskRow
from benchmarks.mini.tasks.formats import choice, exercise, options, short
from benchmarks.mini.tasks.studio import SceneFactory
from benchmarks.mini.world import Entity

INTEGER_HINT = (
    "Hint: Please answer the question requiring an integer answer and provide the final value, "
    "e.g., 1, 2, 3, at the end.\nQuestion: "
)


def seedbench2_plus(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """SEEDBench2_Plus: charts, tables, maps."""
    kind = rng.choice(("chart", "table", "map"))
    if kind == "chart":
        scene = charts.bars(rng, charts.values(rng, ease))
    else:
        scene = charts.table(rng, ease) if kind == "table" else charts.world_map(rng, ease)
    return choice(f"seedbench2_plus/{kind}", scene, rng.choice(scene.asks), rng, {"category": kind})


def ocrvqa(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """OCRVQA: cards with a word and a number, and price lists."""
    if rng.random() < 0.75 or ease < 0.2:
        scene = reading.card(rng)
        made = short("ocrvqa/card", scene, (rng.choice(scene.asks),))
    else:
        scene = charts.price_list(rng)
        made = short("ocrvqa/list", scene, scene.asks[:1])
    case = made.cases[0]
    row = {**case.row, "answer": str([case.says[0]])}
    return TaskInstance(made.task, made.pictures, made.patches, made.looks, (TaskRow(row, case.says),))


def scienceqa(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """ScienceQA: elements, taxonomy, geography, half of the time with a hint."""
    subject = rng.choice(("chemistry", "biology", "geography"))
    if subject == "biology":
        scene, ask = portraits.living(studio, rng)
        hint = "Animals and plants are put into groups by how they are built."
    else:
        entity = rng.choice(studio.elements if subject == "chemistry" else studio.nations)
        scene = portraits.portrait(studio, rng, entity)
        ask = _fact(studio, rng, scene, entity)
        about = "one element of the periodic table" if subject == "chemistry" else "the flag of a country"
        hint = f"The picture shows {about}."
    extra = {"category": subject, "hint": hint if rng.random() < 0.5 else ""}
    return choice(f"scienceqa/{subject}", scene, ask, rng, extra)


def _fact(studio: SceneFactory, rng: random.Random, scene: Scene, entity: Entity) -> QuestionSpec:
    """One of the entity's facts with at least two false values, or its name."""
    asks = [
        portraits.fact(studio, rng, entity, field, value) for field, value in studio.facts(entity) if len(value) > 1
    ]
    asks = [ask for ask in asks if len(ask.wrong) >= 2]
    return rng.choice([*asks, scene.asks[0]])


def mmmu(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """MMMU: one flag, element or chart, or two pictures to tell apart; one in five is open."""
    subject = rng.choice(("Geography", "Chemistry", "Math", "Biology"))
    extra = {
        "category": subject,
        "l2-category": "Science" if subject != "Geography" else "Humanities",
        "split": "validation",
    }
    if subject == "Biology":
        return two_pictures(studio, rng, ease, extra)
    if subject == "Math":
        scene = charts.bars(rng, charts.values(rng, ease))
        ask = rng.choice(scene.asks)
    else:
        entity = rng.choice(studio.elements if subject == "Chemistry" else studio.nations)
        scene = portraits.portrait(studio, rng, entity)
        ask = _fact(studio, rng, scene, entity)
    ask = QuestionSpec(f"<image 1>{ask.question}", ask.answer, ask.wrong)
    if rng.random() < 0.2:
        case = TaskRow({"question": ask.question, "answer": ask.answer, **extra}, (ask.answer,))
        return exercise(f"mmmu/{subject}", scene, [case])
    return choice(f"mmmu/{subject}", scene, ask, rng, extra)


def two_pictures(studio: SceneFactory, rng: random.Random, ease: float, extra: dict[str, str]) -> TaskInstance:
    """Two portraits; what the first or the second shows, among four things of which the other is one."""
    one, two, three, four = studio.some_props(rng, 4, ease)
    scenes = [portraits.portrait(studio, rng, entity) for entity in (one, two)]
    place, answer, other = rng.choice((("first", one, two), ("second", two, one)))
    ask = QuestionSpec(
        f"<image 1><image 2>What is shown in the {place} image?", answer.name, (other.name, three.name, four.name)
    )
    return TaskInstance(
        "mmmu/Biology",
        tuple(scene.picture for scene in scenes),
        tuple(scene.patches for scene in scenes),
        (("What do the images show?", f"{one.name}, {two.name}"),),
        (TaskRow({"question": ask.question, **options(ask, rng), **extra}, (answer.name,)),),
    )


def mathvista(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """MathVista: integers to count, read off a chart or compute; a third as multiple choice."""
    kind = rng.choice(("count", "chart", "table", "things"))
    if kind == "count":
        scene, ask, skill = _first(figures.counted(rng, ease), "arithmetic reasoning")
    elif kind == "chart":
        scene, ask, skill = _first(charts.bars(rng, charts.values(rng, ease)), "statistical reasoning")
    elif kind == "table":
        scene, ask, skill = _first(charts.table(rng, ease), "statistical reasoning")
    else:
        scene = things.scene(studio, rng, ease)
        ask, skill = scene.asks[3], "numeric commonsense"
    row = {
        "question": INTEGER_HINT + ask.question,
        "answer": ask.answer,
        "question_type": "free_form",
        "answer_type": "integer",
        "precision": "1.0",
        "unit": "",
        "choices": "[]",
        "answer_option": "",
        "task": "figure question answering" if kind in ("chart", "table") else "visual question answering",
        "category": "math-targeted-vqa",
        "skills": str([skill]),
    }
    if rng.random() < 1 / 3:
        listed = options(ask, rng)
        texts = [listed[letter] for letter in "ABCD" if letter in listed]
        lines = "".join(f"\n({letter}) {text}" for letter, text in zip("ABCD", texts, strict=False))
        row |= {"question": f"Question: {ask.question}\nChoices:{lines}", "question_type": "multi_choice"}
        row |= {"answer_type": "text", "choices": str(texts), "answer_option": listed["answer"], "precision": ""}
    return exercise(f"mathvista/{kind}", scene, [TaskRow(row, (ask.answer,))])


def _first(scene: Scene, skill: str) -> tuple[Scene, QuestionSpec, str]:
    return scene, scene.asks[0], skill


def mathvision(studio: SceneFactory, rng: random.Random, ease: float) -> TaskInstance:
    """MathVision: sums in the picture and shapes to count, open or with choices."""
    category, level = rng.choice((("arithmetic", "2"), ("counting", "1")))
    scene = reading.addition(rng) if category == "arithmetic" else figures.counted(rng, ease)
    ask = scene.asks[0]
    row = {"question": ask.question, "choices": "[]", "answer": ask.answer, "category": category, "level": level}
    if rng.random() < 0.5:
        listed = options(ask, rng)
        texts = [listed[letter] for letter in "ABCD" if letter in listed]
        lines = "".join(f"\n({letter}) {text}" for letter, text in zip("ABCD", texts, strict=False))
        row |= {"question": f"{ask.question}\nChoices:{lines}", "choices": str(texts), "answer": listed["answer"]}
    return exercise(f"mathvision/{category}", scene, [TaskRow(row, (ask.answer,))])
