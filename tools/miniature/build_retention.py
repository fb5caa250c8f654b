"""Builds the twelve mini retention benchmarks, byte for byte the same each time.

``python -m tools.miniature.build_retention`` writes ``data/retention/mini-*.tsv`` in VLMEvalKit's schemas. Rows come
from random streams that no lesson uses, over old entities only.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks.mini import prompts
from benchmarks.mini.canvas import Pixels
from benchmarks.mini.tasks import dialogues, general, instructions, school
from benchmarks.mini.tasks.base import TaskInstance, TaskRow
from benchmarks.mini.tasks.studio import SceneFactory
from benchmarks.mini.world import DATA, load_world

FOLDER = DATA / "retention"
COLOURS = 64
"""Palette size of the pictures."""

Row = dict[str, str]
Draw = Callable[[SceneFactory, random.Random], tuple[TaskInstance, ...]]


@dataclass(frozen=True)
class Plan:
    """How one benchmark is drawn: so many exercises for each of its tasks."""

    draw: Draw
    quota: Mapping[str, int]


def _one(form: Callable[[SceneFactory, random.Random, float], TaskInstance]) -> Draw:
    return lambda studio, rng: (form(studio, rng, 1.0),)


PLANS: dict[str, Plan] = {
    "MME": Plan(
        lambda studio, rng: (rng.choice(general.MME)(studio, rng, 1.0),),
        {
            f"mme/{name}": 14
            for name in (
                "existence",
                "count",
                "position",
                "color",
                "OCR",
                "numerical_calculation",
                "commonsense_reasoning",
            )
        },
    ),
    "MMBench": Plan(
        _one(general.mmbench),
        {
            "mmbench/object_localization": 9,
            "mmbench/attribute_recognition": 9,
            "mmbench/ocr": 8,
            "mmbench/counting": 8,
            "mmbench/object_naming": 8,
            "mmbench/object_kind": 8,
        },
    ),
    "SEEDBench2_Plus": Plan(
        _one(school.seedbench2_plus), {f"seedbench2_plus/{kind}": 50 for kind in ("chart", "table", "map")}
    ),
    "OCRVQA": Plan(_one(school.ocrvqa), {"ocrvqa/card": 90, "ocrvqa/list": 40}),
    "ScienceQA": Plan(
        _one(school.scienceqa), {f"scienceqa/{kind}": 50 for kind in ("chemistry", "biology", "geography")}
    ),
    "MMMU": Plan(_one(school.mmmu), {f"mmmu/{kind}": 30 for kind in ("Geography", "Chemistry", "Math", "Biology")}),
    "MIA-Bench": Plan(lambda studio, rng: (instructions.composed(studio, rng),), {"mia/sentence": 60, "mia/words": 40}),
    "MMDU": Plan(_one(dialogues.mmdu), {"mmdu/compare": 60}),
    "MathVista": Plan(
        _one(school.mathvista), {f"mathvista/{kind}": 35 for kind in ("count", "chart", "table", "things")}
    ),
    "MathVision": Plan(_one(school.mathvision), {"mathvision/arithmetic": 50, "mathvision/counting": 50}),
    "POPE": Plan(_one(general.pope), {f"pope/{kind}": 30 for kind in ("random", "popular", "adversarial")}),
    "HallusionBench": Plan(
        lambda studio, rng: general.hallusion(studio, rng, 1.0),
        {f"hallusionbench/{kind}": 16 for kind in ("chart", "table", "map")},
    ),
}


def rows(name: str, studio: SceneFactory) -> list[Row]:
    """All rows of one benchmark, such as "MME", without repeating a picture with a question."""
    made: list[Row] = []
    for number, (group, exercises) in enumerate(drawn(name, studio)):
        for figure, exercise in enumerate(exercises):
            first = ""
            for place, case in enumerate(exercise.cases):
                row = {"index": _index(name, exercise, case, number, place, len(made)), **case.row}
                row["image"] = first or _images(exercise.pictures)
                first = first or row["index"]
                if name == "MME":
                    row |= {
                        "category": group.partition("/")[2],
                        "image_path": f"{group.partition('/')[2]}_{number}.png",
                    }
                if name == "HallusionBench":
                    row |= {"set_id": str(number), "visual_input": str(figure + 1)}
                if name == "MMBench":
                    row["split"] = "dev"
                    row.pop("rotation")
                made.append(row)
    return made


def drawn(name: str, studio: SceneFactory) -> Iterator[tuple[str, tuple[TaskInstance, ...]]]:
    """Exercises until every task has its share; (task, exercises over one picture or one pair of figures)."""
    plan, counts, seen = PLANS[name], Counter[str](), set[str]()
    for attempt in range(200_000):
        if counts == Counter(plan.quota):
            return
        exercises = plan.draw(studio, random.Random(f"benchmark/{name}/{attempt}"))
        task = exercises[0].task
        marks = {mark for exercise in exercises for mark in fingerprints(exercise)}
        if counts[task] >= plan.quota[task] or marks & seen or not _usable(name, exercises):
            continue
        counts[task] += 1
        seen |= marks
        yield task, exercises
    raise RuntimeError(f"mini-{name} cannot be filled: {counts}")


def _usable(name: str, exercises: tuple[TaskInstance, ...]) -> bool:
    """Multiple choice needs four options; a circular one is worth four rows only then."""
    if name not in ("MMBench", "SEEDBench2_Plus", "ScienceQA"):
        return True
    return all(case.row.get("D") for exercise in exercises for case in exercise.cases)


def fingerprints(exercise: TaskInstance) -> list[str]:
    """One digest for each case, of its pictures as drawn and its first turn."""
    turns = [prompts.turns(exercise.benchmark, case.row, len(exercise.pictures))[0] for case in exercise.cases]
    return [fingerprint(exercise.pictures, turn) for turn in turns]


def fingerprint(pictures: tuple[Pixels, ...], question: str) -> str:
    """What makes a lesson and a benchmark row the same: the pictures and the question, wherever the markers stand."""
    pixels = b"".join(picture.tobytes() for picture in pictures)
    return hashlib.sha256(pixels + prompts.unmarked(question).encode()).hexdigest()


def _index(name: str, exercise: TaskInstance, case: TaskRow, number: int, place: int, serial: int) -> str:
    if name == "MMBench":
        return str(number + 1 + place * 1_000_000)
    if name == "HallusionBench":
        row = case.row
        return f"{row['category']}_{row['l2-category']}_0_{number}_{row['figure_id']}_{row['question_id']}"
    return str(serial)


def _images(pictures: tuple[Pixels, ...]) -> str:
    """Base64 of the one PNG, or a Python list of several."""
    encoded = [base64.b64encode(_png(pixels)).decode("ascii") for pixels in pictures]
    return encoded[0] if len(encoded) == 1 else str(encoded)


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels).quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def table(made: list[Row]) -> str:
    """Rows as tab-separated text; index first, image second, then columns in order of appearance."""
    columns = list(dict.fromkeys(["index", "image", "question", *(key for row in made for key in row)]))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, delimiter="\t", lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(made)
    return buffer.getvalue()


def main(folder: Path = FOLDER) -> None:
    """Write the twelve files."""
    folder.mkdir(parents=True, exist_ok=True)
    studio = SceneFactory(load_world())
    for name in PLANS:
        text = table(rows(name, studio))
        (folder / f"mini-{name}.tsv").write_text(text, encoding="utf-8")
        print(f"mini-{name}: {text.count(chr(10)) - 1} lines, {len(text) // 1024} kB")


if __name__ == "__main__":
    main()
