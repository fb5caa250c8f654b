"""The old world's lessons: fresh, true, balanced, and silent about everything new."""

from __future__ import annotations

import ast
import dataclasses
import random
import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.mini import components, prompts
from benchmarks.mini.canvas import COLOURS, SIDE, Canvas, shape
from benchmarks.mini.font import glyph
from benchmarks.mini.lessons import Lessons, Sample
from benchmarks.mini.tasks import charts, figures, general, instructions, reading, things
from benchmarks.mini.tasks.base import apart
from benchmarks.mini.tasks.formats import choice, circular
from benchmarks.mini.tasks.studio import SceneFactory
from benchmarks.mini.world import load_world
from benchmarks.records import IMAGE
from tools.miniature import build_retention

MANY = 20_000


@dataclasses.dataclass
class Walk:
    """What 20,000 lessons said, asked and drew."""

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
def studio() -> SceneFactory:
    return SceneFactory(load_world())


@pytest.fixture(scope="module")
def lessons() -> Lessons:
    return Lessons(load_world(), 0)


@pytest.fixture(scope="module")
def walk() -> Walk:
    world = load_world()
    watched = Watched(world.pngs)
    lessons = Lessons(dataclasses.replace(world, pngs=watched), 0)
    found = Walk(set(), set(), set(), Counter())
    for index in range(MANY):
        sample = lessons.sample(index, index / MANY)
        _well_formed(sample)
        found.tasks[sample.task] += 1
        found.text |= {text for pair in sample.turns for text in pair}
        found.prints |= {build_retention.fingerprint(sample.pictures, question) for question, _ in sample.turns}
    for index in range(MANY // 10):
        lessons.look(index)
    found.drawn = watched.asked
    return found


def _well_formed(sample: Sample) -> None:
    assert sample.turns
    assert sample.turns[0][0].count(IMAGE) == len(sample.pictures) == len(sample.patches)
    assert not any(IMAGE in question for question, _ in sample.turns[1:])
    assert all(question.strip() and answer.strip() for question, answer in sample.turns)
    assert all(p.shape == (SIDE, SIDE, 3) and p.dtype == np.uint8 for p in sample.pictures)
    assert all(len(patches) == 16 for patches in sample.patches)


def test_no_lesson_names_anything_new(walk: Walk, studio: SceneFactory) -> None:
    text = "\n".join(sorted(walk.text)).lower()
    assert [name for name in studio.unspoken if _named(name, text)] == []
    new = next(entity for entity in studio.world.entities if entity.split == "new")
    assert _named(new.name, f"{text}\nis this {new.name.lower()}?")


def _named(name: str, text: str) -> bool:
    """Whether the lower-case text holds the name as a whole word; the plain search first is much faster."""
    low = name.lower()
    return low in text and re.search(rf"(?<!\w){re.escape(low)}(?!\w)", text) is not None


def test_no_lesson_draws_anything_new(walk: Walk, studio: SceneFactory) -> None:
    old = {entity.id for entity in studio.old}
    assert walk.drawn <= old
    assert len(walk.drawn) > 0.95 * len(old)


def test_no_lesson_repeats_a_benchmark_row(walk: Walk, studio: SceneFactory) -> None:
    rows = {
        mark
        for name in build_retention.PLANS
        for _, exercises in build_retention.drawn(name, studio)
        for exercise in exercises
        for mark in build_retention.fingerprints(exercise)
    }
    assert len(rows) > 1000
    assert not rows & walk.prints
    again = general.mmbench(studio, random.Random("benchmark/MMBench/0"), 1.0)
    assert set(build_retention.fingerprints(again)) & rows


def test_every_benchmark_is_taught(walk: Walk) -> None:
    taught = {task.partition("/")[0] for task in walk.tasks}
    names = {name.lower().removesuffix("-bench") for name in build_retention.PLANS}
    assert taught == names | {"lesson"}
    for name, plan in build_retention.PLANS.items():
        assert set(plan.quota) <= set(walk.tasks), name


def test_lessons_are_the_same_again_and_differ_otherwise(lessons: Lessons) -> None:
    again, other = Lessons(load_world(), 0), Lessons(load_world(), 1)
    differing = 0
    for index in range(30):
        one, two, three = (source.sample(index, 0.7) for source in (lessons, again, other))
        assert one.turns == two.turns
        assert all(np.array_equal(a, b) for a, b in zip(one.pictures, two.pictures, strict=True))
        differing += one.turns != three.turns
        look = lessons.look(index)
        assert np.array_equal(look[0], again.look(index)[0])
        assert look[1] == again.look(index)[1]
    assert differing > 20


def test_looks_name_only_declared_labels(lessons: Lessons) -> None:
    names = set(lessons.names())
    seen = {label for index in range(2000) for label in lessons.look(index)[1] if label}
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


# Truth, checked against the patch labels and the pixels rather than against what the generator says.


@pytest.mark.parametrize("seed", range(40))
def test_presence_is_true_to_the_patches(studio: SceneFactory, seed: int) -> None:
    for exercise in (
        general.existence(studio, random.Random(seed), 1.0),
        general.pope(studio, random.Random(seed), 1.0),
    ):
        shown = {label for label in exercise.patches[0] if label}
        for case in exercise.cases:
            named = [name for name in (e.name for e in studio.props) if f" {name} in " in case.row["question"]]
            assert len(named) == 1
            assert (named[0] in shown) == (case.says == ("Yes",))


@pytest.mark.parametrize("seed", range(40))
def test_counts_places_and_sums_are_true_to_the_patches(studio: SceneFactory, seed: int) -> None:
    counted = figures.counted(random.Random(seed), 0.0)
    assert sum(label is not None for label in counted.patches) == int(counted.asks[0].answer)

    scene = things.scene(studio, random.Random(seed))
    place = scene.asks[1].answer
    corner = {"top left": 0, "top right": 3, "bottom left": 12, "bottom right": 15}[place]
    near = {corner, corner + (1 if corner % 4 == 0 else -1)}
    assert scene.asks[2].answer in {scene.patches[patch] for patch in near}
    assert int(scene.asks[3].answer) == len({label for label in scene.patches if label})

    added = reading.addition(random.Random(seed))
    printed = "".join(label for label in added.patches if label).rstrip("=")
    first, sign, second = int(printed[0]), printed[1], int(printed[2])
    assert int(added.asks[0].answer) == (first + second if sign == "+" else first - second)

    card = reading.card(random.Random(seed))
    printed = "".join(label for label in card.patches if label)
    assert (card.asks[0].answer, card.asks[1].answer) == (printed[:4], printed[4:])


@pytest.mark.parametrize("seed", range(20))
def test_bars_are_as_high_as_they_say(seed: int) -> None:
    rng = random.Random(seed)
    heights = charts.values(rng)
    scene = charts.bars(rng, heights)
    for colour, height in heights.items():
        painted = (scene.picture == np.array(COLOURS[colour], dtype=np.uint8)).all(axis=2)
        assert painted.any(axis=1).sum() == height * charts.STEP
    assert scene.asks[1].answer == max(heights, key=heights.__getitem__)
    assert scene.asks[2].answer == min(heights, key=heights.__getitem__)


@pytest.mark.parametrize("seed", range(30))
def test_an_edited_figure_turns_every_answer_round(studio: SceneFactory, seed: int) -> None:
    first, second = general.hallusion(studio, random.Random(seed), 1.0)
    assert [case.row["question"] for case in first.cases] == [case.row["question"] for case in second.cases]
    assert all(a.says != b.says for a, b in zip(first.cases, second.cases, strict=True))
    assert Counter(case.says for case in first.cases) == {("Yes",): 1, ("No",): 1}
    assert not np.array_equal(first.pictures[0], second.pictures[0])


def test_yes_and_no_come_in_pairs(studio: SceneFactory) -> None:
    for form in (*general.MME, general.pope):
        for seed in range(10):
            cases = form(studio, random.Random(seed), 1.0).cases
            assert sorted(case.says[0] for case in cases) == ["No", "Yes"]
            assert len({case.row["question"] for case in cases}) == 2


def test_the_right_option_stands_everywhere_and_only_it_is_found_in_the_answer(studio: SceneFactory) -> None:
    places: Counter[str] = Counter()
    for seed in range(400):
        rng = random.Random(seed)
        scene = figures.coloured(rng)
        row = choice("x/y", scene, scene.asks[0], rng).cases[0].row
        places[row["answer"]] += 1
        matching = [letter for letter in "ABCD" if row[letter].lower() in scene.asks[0].answer.lower()]
        assert matching == [row["answer"]]
    assert set(places) == set("ABCD")
    assert min(places.values()) > 60


def test_a_circular_question_puts_each_option_everywhere(studio: SceneFactory) -> None:
    rng = random.Random(3)
    scene = figures.coloured(rng)
    exercise = circular("mmbench/x", scene, scene.asks[0], rng)
    assert [case.row["rotation"] for case in exercise.cases] == ["0", "1", "2", "3"]
    assert {case.row["answer"] for case in exercise.cases} == set("ABCD")
    assert all(case.row[case.row["answer"]] == scene.asks[0].answer for case in exercise.cases)


@given(st.lists(st.text(string.ascii_letters, min_size=1, max_size=6), max_size=12), st.integers(0, 1000))
def test_false_answers_never_hold_one_another(candidates: list[str], seed: int) -> None:
    kept = ["answer", *apart("answer", candidates, 3, random.Random(seed))]
    for one in kept:
        assert sum(one.lower() in other.lower() for other in kept) == 1


# Instructions.


@pytest.mark.parametrize("seed", range(60))
def test_the_taught_response_keeps_every_component_and_another_does_not(studio: SceneFactory, seed: int) -> None:
    exercise = instructions.composed(studio, random.Random(seed))
    row, (says,) = exercise.cases[0].row, exercise.cases[0].says
    parts = ast.literal_eval(row["components"])
    assert len(parts) == int(row["num_of_component"]) == len(ast.literal_eval(row["component_type"]))
    assert sum(ast.literal_eval(row["component_weight"])) == 10
    assert all(components.check(part, says) for part in parts)
    assert not all(components.check(part, "i do not know what this could be") for part in parts)
    assert not any(components.check(part, "") for part in parts)


@pytest.mark.parametrize(
    ("component", "kept", "broken"),
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
def test_each_rule_tells_kept_from_broken(component: str, kept: str, broken: str) -> None:
    assert components.check(component, kept)
    assert not components.check(component, broken)


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
    areas = [float(shape(name, 30).mean()) for name in ("square", "circle", "plus", "triangle")]
    assert areas[0] < 255
    assert len({round(area) for area in areas}) == 4


def test_markers_are_taken_out_of_a_later_turn() -> None:
    row = {"question": "<image 1><image 2>Which?", "A": "one", "B": "two", "answer": "A"}
    (turn,) = prompts.turns("mmmu", row, 2)
    assert turn.count(IMAGE) == 2
    assert IMAGE not in prompts.unmarked(turn)
    assert "Which?" in prompts.unmarked(turn)
