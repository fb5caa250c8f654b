"""Build the twelve mini retention benchmarks: ``python -m tools.miniature.build_retention [--out DIR]``.

Writes ``mini-*.tsv`` in VLMEvalKit's schemas, byte for byte the same each time. Rows are about old entities only and
use random streams that no lesson uses.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import io
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.mini import prompts
from benchmarks.mini.canvas import Pixels
from benchmarks.mini.tasks import dialogues, general, instructions, school, things
from benchmarks.mini.tasks.base import TaskInstance, TaskRow
from benchmarks.mini.tasks.scene_factory import SceneFactory
from benchmarks.mini.world import DATA, load_world
from tools.miniature.drawings import encode_picture

FOLDER = DATA / "retention"
COLOURS = 64
"""Palette size of the pictures."""

Row = dict[str, str]
Draw = Callable[[SceneFactory, random.Random], tuple[TaskInstance, ...]]


@dataclass(frozen=True)
class Plan:
    """How one benchmark is sampled: a draw, and how many instances of each task it needs."""

    draw: Draw
    quota: Mapping[str, int]


def _one(form: Callable[[SceneFactory, random.Random, float], TaskInstance]) -> Draw:
    return lambda factory, rng: (form(factory, rng, 1.0),)


def _quota(benchmark: str, count: int, kinds: str) -> dict[str, int]:
    return {f"{benchmark}/{kind}": count for kind in kinds.split()}


PLANS: dict[str, Plan] = {
    "MME": Plan(
        lambda factory, rng: (rng.choice(general.MME)(factory, rng, 1.0),),
        _quota("mme", 14, "existence count position color OCR numerical_calculation commonsense_reasoning"),
    ),
    "MMBench": Plan(
        _one(general.mmbench),
        _quota("mmbench", 9, "object_localization attribute_recognition")
        | _quota("mmbench", 8, "ocr counting object_naming object_kind"),
    ),
    "SEEDBench2_Plus": Plan(_one(school.seedbench2_plus), _quota("seedbench2_plus", 50, "chart table map")),
    "OCRVQA": Plan(_one(school.ocrvqa), {"ocrvqa/card": 90, "ocrvqa/list": 40}),
    "ScienceQA": Plan(_one(school.scienceqa), _quota("scienceqa", 50, "chemistry biology geography")),
    "MMMU": Plan(_one(school.mmmu), _quota("mmmu", 30, "Geography Chemistry Math Biology")),
    "MIA-Bench": Plan(
        lambda factory, rng: (instructions.compose(factory, rng),), {"mia/sentence": 60, "mia/words": 40}
    ),
    "MMDU": Plan(_one(dialogues.mmdu), {"mmdu/compare": 60}),
    "MathVista": Plan(_one(school.mathvista), _quota("mathvista", 35, "count chart table things")),
    "MathVision": Plan(_one(school.mathvision), _quota("mathvision", 50, "arithmetic counting")),
    # The bases hardly err about things of the lessons' sizes, and never learned which digit is next to which disc.
    "POPE": Plan(
        lambda factory, rng: (general.pope(factory, rng, 1.0, things.SMALL),),
        _quota("pope", 30, "random popular adversarial"),
    ),
    "HallusionBench": Plan(
        lambda factory, rng: general.hallusion(factory, rng, 1.0, general.recoloured_disc),
        _quota("hallusionbench", 16, "chart table map"),
    ),
}


def build_rows(name: str, factory: SceneFactory) -> list[Row]:
    """All rows of one benchmark, such as "MME", without repeating a picture with a question."""
    rows: list[Row] = []
    for number, (task, instances) in enumerate(draw_instances(name, factory)):
        kind = task.partition("/")[2]
        for figure, instance in enumerate(instances):
            first = ""
            for position, task_row in enumerate(instance.rows):
                row = {"index": _index(name, task_row, number, position, len(rows)), **task_row.columns}
                row["image"] = first or _encode_pictures(instance.pictures)
                first = first or row["index"]
                if name == "MME":
                    row |= {"category": kind, "image_path": f"{kind}_{number}.png"}
                if name == "HallusionBench":
                    row |= {"set_id": str(number), "visual_input": str(figure + 1)}
                if name == "MMBench":
                    row["split"] = "dev"
                    row.pop("rotation")
                rows.append(row)
    return rows


def draw_instances(name: str, factory: SceneFactory) -> Iterator[tuple[str, tuple[TaskInstance, ...]]]:
    """Draw until every task has its quota; yield (task, instances over one picture or one pair of figures)."""
    plan, counts, seen = PLANS[name], Counter[str](), set[str]()
    for attempt in range(200_000):
        if counts == Counter(plan.quota):
            return
        instances = plan.draw(factory, random.Random(f"benchmark/{name}/{attempt}"))
        task = instances[0].task
        prints = {text for instance in instances for text in fingerprints(instance)}
        if counts[task] >= plan.quota[task] or prints & seen or not _usable(name, instances):
            continue
        counts[task] += 1
        seen |= prints
        yield task, instances
    raise RuntimeError(f"mini-{name} cannot be filled: {counts}")


def _usable(name: str, instances: tuple[TaskInstance, ...]) -> bool:
    """Whether multiple choice has four options; a circular question has four rows only then."""
    if name not in ("MMBench", "SEEDBench2_Plus", "ScienceQA"):
        return True
    return all(row.columns.get("D") for instance in instances for row in instance.rows)


def fingerprints(instance: TaskInstance) -> list[str]:
    """One digest per row, of its pictures as drawn and its first turn."""
    turns = [prompts.user_turns(instance.benchmark, row.columns, len(instance.pictures))[0] for row in instance.rows]
    return [fingerprint(instance.pictures, turn) for turn in turns]


def fingerprint(pictures: tuple[Pixels, ...], question: str) -> str:
    """What identifies a lesson or a benchmark row: pictures and question, wherever the markers are."""
    pixels = b"".join(picture.tobytes() for picture in pictures)
    return hashlib.sha256(pixels + prompts.strip_markers(question).encode()).hexdigest()


def _index(name: str, task_row: TaskRow, number: int, position: int, serial: int) -> str:
    if name == "MMBench":
        return str(number + 1 + position * 1_000_000)
    if name == "HallusionBench":
        row = task_row.columns
        return f"{row['category']}_{row['l2-category']}_0_{number}_{row['figure_id']}_{row['question_id']}"
    return str(serial)


def _encode_pictures(pictures: tuple[Pixels, ...]) -> str:
    """Base64 of the one PNG, or a Python list of several."""
    encoded = [base64.b64encode(encode_picture(pixels, COLOURS)).decode("ascii") for pixels in pictures]
    return encoded[0] if len(encoded) == 1 else str(encoded)


def format_table(rows: list[Row]) -> str:
    """Rows as tab-separated text; index first, image second, then columns in order of appearance."""
    columns = list(dict.fromkeys(["index", "image", "question", *(key for row in rows for key in row)]))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, delimiter="\t", lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def main() -> None:
    """Write the twelve tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the tables")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    factory = SceneFactory(load_world())
    for name in PLANS:
        text = format_table(build_rows(name, factory))
        (folder / f"mini-{name}.tsv").write_text(text, encoding="utf-8")
        print(f"mini-{name}: {text.count(chr(10)) - 1} lines, {len(text) // 1024} kB")


if __name__ == "__main__":
    main()
