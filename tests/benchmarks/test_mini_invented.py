"""Invented items: the same for the same seed, unlike anything real, and never in an evaluation."""

import json
import random
import re
from collections import Counter

import numpy as np
import pytest

from benchmarks.mini.invented.items import ALIKE, InventedItem, InventedWorld, thumbnail
from benchmarks.mini.invented.names import NameGenerator, NameGenerators, real_names
from benchmarks.mini.invented.pictures import design_flag, draw_flag
from benchmarks.mini.tasks.scene_factory import SceneFactory
from benchmarks.mini.world import DATA, further_drawings, load_world
from benchmarks.registry import INJECTION_FILE, TUNING_FILES
from tools.miniature import build_invented, build_pictures

COUNT = 40


@pytest.fixture(scope="module")
def factory() -> SceneFactory:
    return SceneFactory(load_world())


@pytest.fixture(scope="module")
def items(factory) -> list[InventedItem]:
    world = InventedWorld(factory, 7)
    return [world.item(index) for index in range(COUNT)]


def shown(item: InventedItem) -> tuple:
    return item.id, item.article, item.facts, *(picture.tobytes() for picture in item.pictures)


def test_items_are_the_same_for_the_same_seed_and_index(factory, items):
    again = InventedWorld(SceneFactory(load_world()), 7)
    assert [shown(again.item(index)) for index in (5, 3)] == [shown(items[5]), shown(items[3])]
    assert shown(InventedWorld(factory, 8).item(5)) != shown(items[5])  # control: the seed counts


def test_names_are_nobodys(factory, items):
    real = real_names(factory.world)
    assert {"tanzania", "dodoma", "hourglass"} & real  # control: names of every part of the world are known
    assert [item.name for item in items if item.name.lower() in real] == []
    assert len({item.name for item in items}) > 0.9 * COUNT
    generator = NameGenerator(["koala"], frozenset())
    assert generator(random.Random(0)) == "koala"  # control: without names to avoid it gives what it imitates
    places = NameGenerators(factory)
    assert not {places.place(random.Random(seed)) for seed in range(200)} & real


def test_nothing_unseen_is_named(factory, items):
    named = [item.id for item in items if not factory.is_clean(item.article)]
    assert named == []
    assert not factory.is_clean(f"It sells most to {factory.unseen_names[0]}.")  # control


def test_flags_look_like_no_real_flag(factory):
    world, rng = InventedWorld(factory, 3), random.Random(5)
    real = np.stack(
        [
            thumbnail(factory.world.drawing(entity.id, style))
            for entity in factory.world.entities
            if entity.family in ("country", "territory")
            for style in entity.styles
        ]
    )

    def nearest(design) -> float:
        small = thumbnail(draw_flag(factory, design, "rectangle"))
        return float(np.sqrt(((real - small) ** 2).mean((1, 2, 3))).min())

    assert min(nearest(world.design_flag(rng)) for _ in range(12)) >= ALIKE
    assert min(nearest(design_flag(factory, rng)) for _ in range(60)) < ALIKE  # control: some would


def test_no_picture_is_one_of_the_evaluation(items):
    from PIL import Image

    pictures = {np.asarray(Image.open(path).convert("RGB")).tobytes() for path in (DATA / "evoke").rglob("*.png")}
    assert len(pictures) > 700
    assert not {picture.tobytes() for item in items for picture in item.pictures} & pictures


def test_articles_state_every_answer_and_look_like_real_ones(factory, items):
    for item in items:
        words = item.article.lower()
        for field, value in item.facts:
            said = {"landlocked": "is landlocked", "sea coast": "has a sea coast"}.get(value, value)
            if field != "kind" or value.lower() in words:
                assert said.lower() in words, (item.id, field, value)
        assert 15 <= len(words.split()) <= 90
        assert not re.search(r"[{}]|  | \.|\.\.", item.article), item.article
    families = Counter(item.family for item in items)
    assert set(families) == {"news", "concept", "country", "territory"}
    assert families["news"] > families["concept"] > families["territory"]


def test_pictures_of_an_item_differ_and_have_the_models_size(items):
    for item in items:
        assert len({picture.tobytes() for picture in item.pictures}) == len(item.pictures) >= 2
        assert {(picture.shape, picture.dtype) for picture in item.pictures} == {((64, 64, 3), np.dtype(np.uint8))}


def test_questions_have_several_wordings(items):
    for family in ("news", "concept", "country"):
        item = next(one for one in items if one.family == family)
        field = next(field for field, _ in item.facts if field != "name")
        assert len({item.question(random.Random(seed), field) for seed in range(40)}) >= 4
        assert item.name in str(item.recall_question(random.Random(1), field))
        assert item.recall_question(random.Random(1), "name") is None


@pytest.mark.slow
def test_the_tuning_slice_is_what_its_script_writes(tmp_path):
    build_invented.build(tmp_path / "invented")
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    shipped = {path.relative_to(DATA): path.read_bytes() for path in (DATA / "invented").rglob("*") if path.is_file()}
    assert made == shipped
    assert len(made) == 2 + 2 * 327


def test_the_tuning_slice_is_as_large_as_the_knowledge_and_shares_nothing_with_it(factory):
    def rows(*place: str) -> list[dict]:
        return json.loads(DATA.joinpath(*place).read_text("utf-8"))

    real, invented = rows("evoke", INJECTION_FILE), rows("invented", TUNING_FILES["injection"])
    groups = [Counter(row["cnn_wiki_type"] for row in each) for each in (real, invented)]
    assert groups[0] == groups[1]
    names = real_names(factory.world)
    assert [row["name"] for row in real if row["name"].lower() in names]  # control
    assert [row["name"] for row in invented if row["name"].lower() in names] == []
    for file in ("injection", "evaluation"):
        pictures = [
            {path.read_bytes() for path in (DATA / part / "imgs" / file).iterdir()} for part in ("evoke", "invented")
        ]
        assert len(pictures[1]) > 300
        assert not pictures[0] & pictures[1]


@pytest.mark.slow
def test_no_further_drawing_shows_an_unseen_concept(factory):
    world, further = factory.world, further_drawings()
    assert build_pictures.far_from(world, dict(further)) == {code for code, _ in further}
    seen = next(one for one in world.entities if one.family == "concept" and one.split == "new")
    copied = {("copy", style): world.pngs[seen.id, style] for style in seen.styles}
    assert build_pictures.far_from(world, copied) == set()  # control
    split = {one.id: one.split for one in world.entities}
    pngs = {png for (name, _), png in world.pngs.items() if split[name] != "old"}
    assert not pngs & set(further.values())
