"""The old world's lessons: varied, true, balanced, and without anything new."""

from __future__ import annotations

import ast
import dataclasses
import random
import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.mini import components, prompts
from benchmarks.mini.canvas import COLOURS, SIDE, Canvas, draw_shape
from benchmarks.mini.font import glyph
from benchmarks.mini.lessons import Lessons, Sample
from benchmarks.mini.tasks import charts, figures, general, instructions, reading, things
from benchmarks.mini.tasks.base import sample_distractors
from benchmarks.mini.tasks.formats import choice, circular
from benchmarks.mini.tasks.scene_factory import SceneFactory
from benchmarks.mini.world import load_world
from benchmarks.records import IMAGE
from tools.miniature import build_retention

MANY = 8_000


@dataclasses.dataclass
class LessonLog:
    """The texts, fingerprints, drawings and tasks of many lessons."""

    text: set[str]
    prints: set[str]
    drawn: set[str]
    tasks: Counter[str]


class Watched(Mapping[tuple[str, str], bytes]):
    """The world's drawings, remembering whose were asked for."""

    def __init__(self, pngs: Mapping[tuple[str, str], bytes]) -> None:
        self._pngs, self.asked = pngs, set[str]()

    def __getitem__(self, key: tuple[str, str]) -> bytes:
        self.asked.add(key[0])
        return self._pngs[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pngs)

    def __len__(self) -> int:
        return len(self._pngs)


@pytest.fixture(scope="module")
def factory() -> SceneFactory:
    return SceneFactory(load_world())


@pytest.fixture(scope="module")
def lessons() -> Lessons:
    return Lessons(load_world(), 0)


@pytest.fixture(scope="module")
def log() -> LessonLog:
    world = load_world()
    watched = Watched(world.pngs)
    lessons = Lessons(dataclasses.replace(world, pngs=watched), 0)
    found = LessonLog(set(), set(), set(), Counter())
    for index in range(MANY):
        sample = lessons.sample(index, index / MANY)
        _well_formed(sample)
        found.tasks[sample.task] += 1
        found.text |= {text for pair in sample.turns for text in pair}
        found.prints |= {build_retention.fingerprint(sample.pictures, question) for question, _ in sample.turns}
    for index in range(MANY // 10):
        lessons.labelled_picture(index)
    found.drawn = watched.asked
    return found


def _well_formed(sample: Sample) -> None:
    assert sample.turns
    assert sample.turns[0][0].count(IMAGE) == len(sample.pictures) == len(sample.patches)
    assert not any(IMAGE in question for question, _ in sample.turns[1:])
    assert all(question.strip() and answer.strip() for question, answer in sample.turns)
    assert all(p.shape == (SIDE, SIDE, 3) and p.dtype == np.uint8 for p in sample.pictures)
    assert all(len(patches) == 16 for patches in sample.patches)


@pytest.mark.slow
def test_no_lesson_names_anything_new(log: LessonLog, factory: SceneFactory) -> None:
    text = "\n".join(sorted(log.text)).lower()
    assert [name for name in factory.unseen_names if _named(name, text)] == []
    new = next(entity for entity in factory.world.entities if entity.split == "new")
    assert _named(new.name, f"{text}\nis this {new.name.lower()}?")


def _named(name: str, text: str) -> bool:
    """Whether the lower-case text holds the name as a whole word; the plain search first is much faster."""
    low = name.lower()
    return low in text and re.search(rf"(?<!\w){re.escape(low)}(?!\w)", text) is not None


def test_no_lesson_draws_anything_new(log: LessonLog, factory: SceneFactory) -> None:
    old = {entity.id for entity in factory.old_entities}
    assert log.drawn <= old
    assert len(log.drawn) > 0.95 * len(old)


def test_no_lesson_repeats_a_benchmark_row(log: LessonLog, factory: SceneFactory) -> None:
    rows = {
        mark
        for name in build_retention.PLANS
        for _, instances in build_retention.draw_instances(name, factory)
        for instance in instances
        for mark in build_retention.fingerprints(instance)
    }
    assert len(rows) > 1000
    assert not rows & log.prints
    again = general.mmbench(factory, random.Random("benchmark/MMBench/0"), 1.0)
    assert set(build_retention.fingerprints(again)) & rows


def test_every_benchmark_is_taught(log: LessonLog) -> None:
    taught = {task.partition("/")[0] for task in log.tasks}
    names = {name.lower().removesuffix("-bench") for name in build_retention.PLANS}
    assert taught == names | {"lesson"}
    for name, plan in build_retention.PLANS.items():
        assert set(plan.quota) <= set(log.tasks), name


def test_lessons_are_the_same_again_and_differ_otherwise(lessons: Lessons) -> None:
    again, other = Lessons(load_world(), 0), Lessons(load_world(), 1)
    differing = 0
    for index in range(30):
        one, two, three = (source.sample(index, 0.7) for source in (lessons, again, other))
        assert one.turns == two.turns
        assert all(np.array_equal(a, b) for a, b in zip(one.pictures, two.pictures, strict=True))
        differing += one.turns != three.turns
        look = lessons.labelled_picture(index)
        assert np.array_equal(look[0], again.labelled_picture(index)[0])
        assert look[1] == again.labelled_picture(index)[1]
    assert differing > 20


def test_looks_name_only_declared_labels(lessons: Lessons) -> None:
    names = set(lessons.label_names())
    seen = {label for index in range(2000) for label in lessons.labelled_picture(index)[1] if label}
    assert seen <= names
    assert len(seen) > 0.8 * len(names)


def test_naming_first_fades_as_training_goes_on(lessons: Lessons) -> None:
    def share(progress: float) -> float:
        drawn = [lessons.sample(index, progress) for index in range(600)]
        mme = [sample for sample in drawn if sample.task.startswith(("mme", "pope", "hallusion"))]
        return sum(not sample.turns[0][0].endswith("yes or no.") for sample in mme) / len(mme)

    assert share(0.0) > 0.95
    assert share(1.0) < 0.3


def test_a_conversation_for_replay_carries_its_pictures(lessons: Lessons) -> None:
    for index in range(20):
        sample = lessons.sample(index, 1.0)
        conversation = sample.conversation("one")
        assert [turn.text for turn in conversation.turns] == [text for pair in sample.turns for text in pair]
        for picture, pixels in zip(conversation.pictures, sample.pictures, strict=True):
            assert np.array_equal(np.asarray(picture.pixels()), pixels)


# Truth, checked against patch labels and pixels instead of the generator's own answers.


@pytest.mark.parametrize("seed", range(40))
def test_presence_is_true_to_the_patches(factory: SceneFactory, seed: int) -> None:
    for instance in (
        general.existence(factory, random.Random(seed), 1.0),
        general.pope(factory, random.Random(seed), 1.0),
        general.pope(factory, random.Random(seed), 1.0, things.SMALL),
    ):
        shown = {label for label in instance.patches[0] if label}
        for task_row in instance.rows:
            named = [
                name
                for name in (e.name for e in factory.scene_concepts)
                if f" {name} in " in task_row.columns["question"]
            ]
            assert len(named) == 1
            assert (named[0] in shown) == (task_row.answers == ("Yes",))


@pytest.mark.parametrize("seed", range(40))
def test_counts_places_and_sums_are_true_to_the_patches(factory: SceneFactory, seed: int) -> None:
    counted = figures.counted(random.Random(seed), 0.0)
    assert sum(label is not None for label in counted.patches) == int(counted.questions[0].answer)

    scene = things.scene(factory, random.Random(seed))
    place = scene.questions[1].answer
    corner = {"top left": 0, "top right": 3, "bottom left": 12, "bottom right": 15}[place]
    near = {corner, corner + (1 if corner % 4 == 0 else -1)}
    assert scene.questions[2].answer in {scene.patches[patch] for patch in near}
    assert int(scene.questions[3].answer) == len({label for label in scene.patches if label})

    added = reading.addition(random.Random(seed))
    printed = "".join(label for label in added.patches if label).rstrip("=")
    first, sign, second = int(printed[0]), printed[1], int(printed[2])
    assert int(added.questions[0].answer) == (first + second if sign == "+" else first - second)

    card = reading.card(random.Random(seed))
    printed = "".join(label for label in card.patches if label)
    assert (card.questions[0].answer, card.questions[1].answer) == (printed[:4], printed[4:])


@pytest.mark.parametrize("seed", range(20))
def test_bars_are_as_high_as_they_say(seed: int) -> None:
    rng = random.Random(seed)
    heights = charts.values(rng)
    scene = charts.bars(rng, heights)
    for colour, height in heights.items():
        painted = (scene.picture == np.array(COLOURS[colour], dtype=np.uint8)).all(axis=2)
        assert painted.any(axis=1).sum() == height * charts.STEP
    assert scene.questions[1].answer == max(heights, key=heights.__getitem__)
    assert scene.questions[2].answer == min(heights, key=heights.__getitem__)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("edit", [general.swapped_digits, general.recoloured_disc])
def test_an_edited_figure_turns_every_answer_round(factory: SceneFactory, seed: int, edit: general.TableEdit) -> None:
    first, second = general.hallusion(factory, random.Random(seed), 1.0, edit)
    assert [task_row.columns["question"] for task_row in first.rows] == [
        task_row.columns["question"] for task_row in second.rows
    ]
    assert all(a.answers != b.answers for a, b in zip(first.rows, second.rows, strict=True))
    assert Counter(task_row.answers for task_row in first.rows) == {("Yes",): 1, ("No",): 1}
    assert not np.array_equal(first.pictures[0], second.pictures[0])


@pytest.mark.parametrize("seed", range(20))
def test_a_recoloured_disc_is_beside_the_number_that_is_asked_for(seed: int) -> None:
    scenes, claims = general.recoloured_disc(random.Random(seed), 1.0)
    for scene, is_first in zip(scenes, (True, False), strict=True):
        labels = list(scene.patches)
        for text, true_of_first in claims:
            colour, digit = text.split()[1], text.split()[-1].rstrip("?")
            beside = (colour, digit) in pairwise(labels)
            assert beside == (true_of_first is is_first)
            assert beside == (colour in labels)


def test_pope_shows_things_smaller_than_the_scenes_of_lessons_do(factory: SceneFactory) -> None:
    def drawn_widths(widths: Sequence[int]) -> set[int]:
        with mock.patch.object(factory, "random_icon", wraps=factory.random_icon) as draw:
            for seed in range(20):
                general.pope(factory, random.Random(seed), 1.0, widths)
        return {call.args[2] for call in draw.call_args_list}

    assert drawn_widths(things.WIDTHS) == set(things.WIDTHS)
    assert max(drawn_widths(things.SMALL)) < min(things.WIDTHS)


def test_yes_and_no_come_in_pairs(factory: SceneFactory) -> None:
    for form in (*general.MME, general.pope):
        for seed in range(10):
            rows = form(factory, random.Random(seed), 1.0).rows
            assert sorted(task_row.answers[0] for task_row in rows) == ["No", "Yes"]
            assert len({task_row.columns["question"] for task_row in rows}) == 2


def test_the_right_option_is_at_every_position_and_the_only_one_in_the_answer(factory: SceneFactory) -> None:
    places: Counter[str] = Counter()
    for seed in range(400):
        rng = random.Random(seed)
        scene = figures.coloured(rng)
        row = choice("x/y", scene, scene.questions[0], rng).rows[0].columns
        places[row["answer"]] += 1
        matching = [letter for letter in "ABCD" if row[letter].lower() in scene.questions[0].answer.lower()]
        assert matching == [row["answer"]]
    assert set(places) == set("ABCD")
    assert min(places.values()) > 60


def test_a_circular_question_puts_each_option_everywhere(factory: SceneFactory) -> None:
    rng = random.Random(3)
    scene = figures.coloured(rng)
    instance = circular("mmbench/x", scene, scene.questions[0], rng)
    assert [task_row.columns["rotation"] for task_row in instance.rows] == ["0", "1", "2", "3"]
    assert {task_row.columns["answer"] for task_row in instance.rows} == set("ABCD")
    assert all(task_row.columns[task_row.columns["answer"]] == scene.questions[0].answer for task_row in instance.rows)


@given(st.lists(st.text(string.ascii_letters, min_size=1, max_size=6), max_size=12), st.integers(0, 1000))
def test_distractors_never_contain_one_another(candidates: list[str], seed: int) -> None:
    chosen = ["answer", *sample_distractors("answer", candidates, 3, random.Random(seed))]
    for name in chosen:
        assert sum(name.lower() in other.lower() for other in chosen) == 1


# Instructions.


@pytest.mark.parametrize("seed", range(60))
def test_the_taught_response_keeps_every_component_and_another_does_not(factory: SceneFactory, seed: int) -> None:
    instance = instructions.compose(factory, random.Random(seed))
    row, (answer,) = instance.rows[0].columns, instance.rows[0].answers
    parts = ast.literal_eval(row["components"])
    assert len(parts) == int(row["num_of_component"]) == len(ast.literal_eval(row["component_type"]))
    assert sum(ast.literal_eval(row["component_weight"])) == 10
    assert all(components.check(part, answer) for part in parts)
    assert not all(components.check(part, "i do not know what this could be") for part in parts)
    assert not any(components.check(part, "") for part in parts)


@pytest.mark.parametrize(
    ("component", "good", "bad"),
    [
        ('mention "Costa Rica"', "It is COSTA RICA.", "It is Costa."),
        ('mention "cat"', "a cat", "a caterpillar"),
        ("use exactly 3 words", "one two three", "one two"),
        ("use exactly 1 word", "cat.", "a cat"),
        (components.CAPITALS, "A CAT.", "A cat."),
        (components.SMALL, "a cat.", "A cat."),
        (components.STOP, '"It is."', "It is"),
        (components.THE, "THE CAT", "Then"),
        (components.QUOTED, '"cat"', 'cat"'),
    ],
)
def test_each_rule_accepts_and_rejects(component: str, good: str, bad: str) -> None:
    assert components.check(component, good)
    assert not components.check(component, bad)


def test_an_unknown_rule_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown component"):
        components.check("be nice", "yes")


# Drawing.


def test_characters_differ() -> None:
    glyphs = {character: glyph(character).tobytes() for character in string.ascii_uppercase + string.digits + "+-=?"}
    assert len(set(glyphs.values())) == len(glyphs)


def test_a_stamp_blends_is_clipped_and_labels_what_it_covers() -> None:
    canvas = Canvas(random.Random(0))
    paper = canvas.pixels.copy()
    stamp = np.zeros((20, 20, 4), dtype=np.uint8)
    stamp[:, :10] = (10, 20, 30, 255)
    canvas.stamp(stamp, 56, -4, "thing")
    assert (canvas.pixels[:16, 56:64] == (10, 20, 30)).all()
    assert np.array_equal(canvas.pixels[16:], paper[16:])
    assert np.array_equal(canvas.pixels[:, :56], paper[:, :56])
    assert [index for index, label in enumerate(canvas.labels) if label] == [3]


def test_shapes_have_their_own_areas() -> None:
    areas = [float(draw_shape(name, 30).mean()) for name in ("square", "circle", "plus", "triangle")]
    assert areas[0] < 255
    assert len({round(area) for area in areas}) == 4


def test_markers_are_taken_out_of_a_later_turn() -> None:
    row = {"question": "<image 1><image 2>Which?", "A": "one", "B": "two", "answer": "A"}
    (turn,) = prompts.user_turns("mmmu", row, 2)
    assert turn.count(IMAGE) == 2
    assert IMAGE not in prompts.strip_markers(turn)
    assert "Which?" in prompts.strip_markers(turn)
