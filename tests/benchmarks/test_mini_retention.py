"""The twelve mini benchmarks: rebuilt byte for byte, in VLMEvalKit's form, solvable, and asked as taught."""

from __future__ import annotations

import ast
import csv
import io
from collections import Counter, defaultdict

import pytest

from benchmarks.mini import prompts
from benchmarks.mini.tasks.base import TaskRow
from benchmarks.mini.tasks.scene_factory import SceneFactory
from benchmarks.mini.world import load_world
from benchmarks.records import Answer, Question
from benchmarks.retention import Retention, score_batch
from tools.miniature import build_retention

NAMES = tuple(build_retention.PLANS)


@pytest.fixture(scope="module")
def factory() -> SceneFactory:
    return SceneFactory(load_world())


@pytest.fixture(scope="module")
def tables() -> dict[str, list[dict[str, str]]]:
    found = {}
    for name in NAMES:
        text = (build_retention.FOLDER / f"mini-{name}.tsv").read_text("utf-8")
        found[name] = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
    return found


@pytest.fixture(scope="module")
def cases(factory: SceneFactory) -> dict[str, list[tuple[TaskRow, int]]]:
    """Each benchmark's cases in the order of its rows, with their numbers of pictures."""
    return {
        name: [
            (task_row, len(instance.pictures))
            for _, instances in build_retention.draw_instances(name, factory)
            for instance in instances
            for task_row in instance.rows
        ]
        for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_table_is_what_the_builder_makes(name: str, factory: SceneFactory) -> None:
    made = build_retention.format_table(build_retention.build_rows(name, factory))
    path = build_retention.FOLDER / f"mini-{name}.tsv"
    assert made == path.read_text("utf-8"), "run python -m tools.miniature.build_retention"


def test_sizes(tables: dict[str, list[dict[str, str]]]) -> None:
    for name, rows in tables.items():
        assert 60 <= len(rows) <= 200, name
        assert len({row["index"] for row in rows}) == len(rows)
        assert (build_retention.FOLDER / f"mini-{name}.tsv").stat().st_size < 400_000


def test_rows_name_nothing_new(tables: dict[str, list[dict[str, str]]], factory: SceneFactory) -> None:
    for name, rows in tables.items():
        for row in rows:
            assert factory.is_clean(" | ".join(value for key, value in row.items() if key != "image")), (
                name,
                row["index"],
            )
    assert not factory.is_clean(f"Is this {factory.unseen_names[0]}?")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_lessons_use_vlmevalkits_own_prompts(
    name: str,
    embedded: dict[str, tuple[Retention, list[Question]]],
    cases: dict[str, list[tuple[TaskRow, int]]],
) -> None:
    questions = embedded[name][1]
    benchmark = name.lower().removesuffix("-bench")
    ours = [prompts.user_turns(benchmark, task_row.columns, pictures) for task_row, pictures in cases[name]]
    assert [question.turns for question in questions] == ours
    assert [len(question.pictures) for question in questions] == [pictures for _, pictures in cases[name]]


@pytest.mark.slow
def test_what_is_taught_scores_full_marks_and_silence_does_not(
    embedded: dict[str, tuple[Retention, list[Question]]], cases: dict[str, list[tuple[TaskRow, int]]]
) -> None:
    jobs = []
    for name, (benchmark, questions) in embedded.items():
        right = [Answer(q.id, task_row.answers) for q, (task_row, _) in zip(questions, cases[name], strict=True)]
        wrong = [Answer(q.id, ("nothing that fits",) * len(q.turns)) for q in questions]
        jobs += [(benchmark, questions, right), (benchmark, questions, wrong)]
    scores = score_batch(jobs)
    for name, right, wrong in zip(embedded, scores[::2], scores[1::2], strict=True):
        assert right.headline == pytest.approx(100.0), name
        assert wrong.headline is not None
        assert wrong.headline < 15, name


def test_mme_asks_one_true_and_one_false_question_of_each_image(tables: dict[str, list[dict[str, str]]]) -> None:
    by_image = defaultdict(list)
    for row in tables["MME"]:
        by_image[row["image_path"]].append(row["answer"])
    assert all(sorted(answers) == ["No", "Yes"] for answers in by_image.values())
    assert len(by_image) == len(tables["MME"]) / 2


def test_pope_is_balanced_in_each_category(tables: dict[str, list[dict[str, str]]]) -> None:
    counts = Counter((row["category"], row["answer"]) for row in tables["POPE"])
    assert set(counts.values()) == {30}
    assert len(counts) == 6


def test_mmbench_turns_each_question_four_times(tables: dict[str, list[dict[str, str]]]) -> None:
    groups = defaultdict(list)
    for row in tables["MMBench"]:
        groups[int(row["index"]) % 1_000_000].append(row)
    assert len(groups) == 50
    for rows in groups.values():
        assert sorted(int(row["index"]) // 1_000_000 for row in rows) == [0, 1, 2, 3]
        assert {row["answer"] for row in rows} == set("ABCD")
        assert len({row[row["answer"]] for row in rows}) == 1


def test_hallusionbench_figures_disagree_on_every_question(tables: dict[str, list[dict[str, str]]]) -> None:
    answers = defaultdict(set)
    for row in tables["HallusionBench"]:
        _, kind, _, group, figure, question = row["index"].split("_")
        assert (kind, figure, question) == (row["l2-category"], row["figure_id"], row["question_id"])
        answers[group, question].add(row["answer"])
    assert all(found == {"Yes", "No"} for found in answers.values())


def test_the_right_option_is_at_every_position(tables: dict[str, list[dict[str, str]]]) -> None:
    for name in ("SEEDBench2_Plus", "ScienceQA"):
        counts = Counter(row["answer"] for row in tables[name])
        assert set(counts) == set("ABCD")
        assert min(counts.values()) > len(tables[name]) / 8


def test_some_rows_hold_several_pictures_and_some_questions_are_open(tables: dict[str, list[dict[str, str]]]) -> None:
    several = [row for row in tables["MMMU"] if row["image"].startswith("[")]
    assert all(len(ast.literal_eval(row["image"])) == 2 for row in several)
    assert len(several) >= 20
    assert sum(not row["A"] for row in tables["MMMU"]) >= 8
    assert all(2 <= len(ast.literal_eval(row["image"])) <= 3 for row in tables["MMDU"])
