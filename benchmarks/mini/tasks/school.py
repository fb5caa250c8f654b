"""mini-SEEDBench2_Plus, mini-OCRVQA, mini-ScienceQA, mini-MMMU, mini-MathVista and mini-MathVision."""

from __future__ import annotations

import random

from benchmarks.mini.tasks import charts, figures, portraits, reading, things
from benchmarks.mini.tasks.base import QuestionSpec, Scene, TaskInstance, TaskRow
from benchmarks.mini.tasks.formats import choice, options
from benchmarks.mini.tasks.scene_factory import SceneFactory
from benchmarks.mini.world import Entity

INTEGER_HINT = (
    "Hint: Please answer the question requiring an integer answer and provide the final value, "
    "e.g., 1, 2, 3, at the end.\nQuestion: "
)


def seedbench2_plus(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """SEEDBench2_Plus: charts, tables, maps."""
    kind = rng.choice(("chart", "table", "map"))
    if kind == "chart":
        scene = charts.bars(rng, charts.values(rng, difficulty))
    else:
        scene = charts.table(rng, difficulty) if kind == "table" else charts.world_map(rng, difficulty)
    return choice(f"seedbench2_plus/{kind}", scene, rng.choice(scene.questions), rng, {"category": kind})


def ocrvqa(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """OCRVQA: cards with a word and a number, and price lists."""
    if rng.random() < 0.75 or difficulty < 0.2:
        scene = reading.card(rng)
        task, spec = "ocrvqa/card", rng.choice(scene.questions)
    else:
        scene = charts.price_list(rng)
        task, spec = "ocrvqa/list", scene.questions[0]
    row = TaskRow({"question": spec.question, "answer": str([spec.answer])}, (spec.answer,))
    return TaskInstance.from_scene(task, scene, [row])


def scienceqa(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """ScienceQA: elements, taxonomy, geography; half of the questions have a hint."""
    subject = rng.choice(("chemistry", "biology", "geography"))
    if subject == "biology":
        scene, spec = portraits.living_thing(factory, rng)
        hint = "Animals and plants are put into groups by how they are built."
    else:
        entity = rng.choice(factory.elements if subject == "chemistry" else factory.nations)
        scene = portraits.portrait(factory, rng, entity)
        spec = _fact_or_name(factory, rng, scene, entity)
        about = "one element of the periodic table" if subject == "chemistry" else "the flag of a country"
        hint = f"The picture shows {about}."
    extra = {"category": subject, "hint": hint if rng.random() < 0.5 else ""}
    return choice(f"scienceqa/{subject}", scene, spec, rng, extra)


def _fact_or_name(factory: SceneFactory, rng: random.Random, scene: Scene, entity: Entity) -> QuestionSpec:
    """One of the entity's facts with at least two distractors, or its name."""
    facts = [(field, value) for field, value in factory.old_facts(entity) if len(value) > 1]
    specs = [portraits.fact_question(factory, rng, entity, field, value) for field, value in facts]
    return rng.choice([*(spec for spec in specs if len(spec.distractors) >= 2), scene.questions[0]])


def mmmu(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """MMMU: one flag, element or chart, or two pictures to distinguish; one question in five is open."""
    subject = rng.choice(("Geography", "Chemistry", "Math", "Biology"))
    extra = {
        "category": subject,
        "l2-category": "Science" if subject != "Geography" else "Humanities",
        "split": "validation",
    }
    if subject == "Biology":
        return two_pictures(factory, rng, difficulty, extra)
    if subject == "Math":
        scene = charts.bars(rng, charts.values(rng, difficulty))
        spec = rng.choice(scene.questions)
    else:
        entity = rng.choice(factory.elements if subject == "Chemistry" else factory.nations)
        scene = portraits.portrait(factory, rng, entity)
        spec = _fact_or_name(factory, rng, scene, entity)
    spec = QuestionSpec(f"<image 1>{spec.question}", spec.answer, spec.distractors)
    if rng.random() < 0.2:
        row = TaskRow({"question": spec.question, "answer": spec.answer, **extra}, (spec.answer,))
        return TaskInstance.from_scene(f"mmmu/{subject}", scene, [row])
    return choice(f"mmmu/{subject}", scene, spec, rng, extra)


def two_pictures(factory: SceneFactory, rng: random.Random, difficulty: float, extra: dict[str, str]) -> TaskInstance:
    """Two portraits; the question is what the first or second shows, and the other is among the options."""
    one, two, three, four = factory.sample_concepts(rng, 4, difficulty)
    scenes = [portraits.portrait(factory, rng, entity) for entity in (one, two)]
    position, answer, other = rng.choice((("first", one, two), ("second", two, one)))
    spec = QuestionSpec(
        f"<image 1><image 2>What is shown in the {position} image?", answer.name, (other.name, three.name, four.name)
    )
    return TaskInstance(
        "mmmu/Biology",
        tuple(scene.picture for scene in scenes),
        tuple(scene.patches for scene in scenes),
        (("What do the images show?", f"{one.name}, {two.name}"),),
        (TaskRow({"question": spec.question, **options(spec, rng), **extra}, (answer.name,)),),
    )


def mathvista(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """MathVista: integers to count, read from a chart or compute; a third are multiple choice."""
    kind = rng.choice(("count", "chart", "table", "things"))
    if kind == "count":
        scene, skill = figures.counted(rng, difficulty), "arithmetic reasoning"
    elif kind == "chart":
        scene, skill = charts.bars(rng, charts.values(rng, difficulty)), "statistical reasoning"
    elif kind == "table":
        scene, skill = charts.table(rng, difficulty), "statistical reasoning"
    else:
        scene, skill = things.scene(factory, rng, difficulty), "numeric commonsense"
    spec = scene.questions[3 if kind == "things" else 0]
    row = {
        "question": INTEGER_HINT + spec.question,
        "answer": spec.answer,
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
        texts, lines, letter = _list_options(spec, rng)
        row |= {"question": f"Question: {spec.question}\nChoices:{lines}", "question_type": "multi_choice"}
        row |= {"answer_type": "text", "choices": str(texts), "answer_option": letter, "precision": ""}
    return TaskInstance.from_scene(f"mathvista/{kind}", scene, [TaskRow(row, (spec.answer,))])


def mathvision(factory: SceneFactory, rng: random.Random, difficulty: float) -> TaskInstance:
    """MathVision: printed sums and shapes to count, open or multiple choice."""
    category, level = rng.choice((("arithmetic", "2"), ("counting", "1")))
    scene = reading.addition(rng) if category == "arithmetic" else figures.counted(rng, difficulty)
    spec = scene.questions[0]
    row = {"question": spec.question, "choices": "[]", "answer": spec.answer, "category": category, "level": level}
    if rng.random() < 0.5:
        texts, lines, letter = _list_options(spec, rng)
        row |= {"question": f"{spec.question}\nChoices:{lines}", "choices": str(texts), "answer": letter}
    return TaskInstance.from_scene(f"mathvision/{category}", scene, [TaskRow(row, (spec.answer,))])


def _list_options(spec: QuestionSpec, rng: random.Random) -> tuple[list[str], str, str]:
    """The shuffled options, the same as lines of text, and the letter of the right one."""
    by_letter = options(spec, rng)
    answer = by_letter.pop("answer")
    lines = "".join(f"\n({letter}) {text}" for letter, text in by_letter.items())
    return list(by_letter.values()), lines, answer
