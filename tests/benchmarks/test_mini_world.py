"""The embedded world: splits, no leak from new to old, mini-EVOKE's files, licences."""

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.metrics import cem
from benchmarks.mini import cards, phrasings
from benchmarks.mini.world import DATA, Entity, World, load_world

EVOKE = DATA / "evoke"
Drawings = dict[tuple[str, str], np.ndarray]
SUFFIX = "\nAnswer the question using a single word or phrase."


def evoke(prefix: str) -> tuple[list[dict], list[dict]]:
    injection = json.loads((EVOKE / f"{prefix}_injection_data.json").read_text("utf-8"))
    lines = (EVOKE / f"{prefix}_evaluation_data.jsonl").read_text("utf-8").splitlines()
    return injection, [json.loads(line) for line in lines]


def pixels(path: Path) -> str:
    with Image.open(path) as image:
        return hashlib.sha256(np.asarray(image.convert("RGB")).tobytes()).hexdigest()


def old_words(world: World) -> str:
    """All that pre-training may read about the old world, its names and its ways of asking."""
    parts = [part for e in world.old() for part in (e.id, e.name, e.text, e.hypernym, e.type, *(v for _, v in e.facts))]
    ways = [*phrasings.FACTS.values(), *phrasings.NAMES.values(), *phrasings.NEWS.values()]
    return "\n".join([*parts, *(text for way in ways for text in (way.evaluation, *way.lessons, *way.recall))]).lower()


def spaced(text: str) -> str:
    return " " + " ".join(re.findall(r"[^\W_]+", text.lower())) + " "


def named(names: list[str], text: str) -> list[str]:
    """The names that occur in the text as whole words."""
    words = spaced(text)
    return [name for name in names if spaced(name) in words]


@pytest.fixture(scope="module")
def world() -> World:
    return load_world()


@pytest.fixture(scope="module")
def drawings(world: World) -> Drawings:
    return {(entity.id, style): world.drawing(entity.id, style) for entity in world.entities for style in entity.styles}


def test_splits_have_the_promised_shares(world):
    count = Counter(entity.split for entity in world.entities)
    total = len(world.entities)
    assert 0.66 < count["old"] / total < 0.74
    assert 0.18 < count["new"] / total < 0.26
    assert 0.05 < count["tuning"] / total < 0.11
    assert len({entity.id for entity in world.entities} | {item.id for item in world.news}) == total + len(world.news)
    assert len({(entity.family, entity.name.lower()) for entity in world.entities}) == total


def test_no_old_text_names_a_new_thing(world):
    words = old_words(world)
    unseen = [entity.name for entity in world.entities if entity.split != "old"]
    assert named(unseen, words) == []
    assert named([entity.id for entity in world.entities if entity.split != "old"], words) == []
    assert len(named([entity.name for entity in world.old()], words)) == len(world.old())  # the search can find


def test_no_old_fact_is_news(world):
    by_id = {entity.id: entity for entity in world.entities}
    for item in world.news:
        country = by_id[item.entity]
        assert country.split == "old"
        assert country.fact(item.type) is None
        assert dict(item.facts)[item.type] in item.text
    assert any(by_id[item.entity].fact("capital") for item in world.news)


def test_leaders_in_the_news_are_named_in_no_old_text(world):
    leaders = [dict(item.facts)[item.type] for item in world.news if item.type.startswith("head of")]
    known = [value for entity in world.old() for field, value in entity.facts if field.startswith("head of")]
    assert len(leaders) > 20
    assert named(leaders, old_words(world)) == []
    assert len(named(known, old_words(world))) == len(known)


def test_every_text_is_25_to_80_words_and_states_its_facts(world):
    for subject in (*world.entities, *world.news):
        assert 25 <= len(subject.text.split()) <= 80, subject.id
    for entity in world.entities:
        for field, value in entity.facts:
            shown = {"sea coast": "sea coast", "landlocked": "landlocked"}.get(value, value)
            assert shown.lower() in entity.text.lower(), (entity.id, field)


def test_every_drawing_opens_and_shows_something(drawings, world):
    for entity in world.entities:
        assert len(entity.styles) >= (2 if entity.family in {"country", "territory"} else 3)
        for style in entity.styles:
            drawing = drawings[entity.id, style]
            assert drawing.shape == (64, 64, 4)
            assert drawing.dtype == np.uint8
            assert (drawing[..., 3] > 128).mean() > 0.03, (entity.id, style)
    assert set(drawings) == set(world.pngs)


@pytest.mark.parametrize("prefix", ["evoke", "evoke_tuning"])
def test_evoke_files_keep_the_format(prefix):
    injection, evaluation = evoke(prefix)
    assert [row["id"] for row in injection] == [row["question_id"] for row in evaluation]
    for injected, asked in zip(injection, evaluation, strict=True):
        human, gpt = injected["conversations"]
        assert (human["from"], gpt["from"]) == ("human", "gpt")
        assert human["value"].startswith("<image>\n")
        assert set(asked) == {"question_id", "image", "text", "answer", "type", "cnn_wiki_type"}
        assert asked["text"].endswith(SUFFIX)
        assert (injected["type"], injected["cnn_wiki_type"]) == (asked["type"], asked["cnn_wiki_type"])
        assert asked["cnn_wiki_type"] in {"news", "wiki"}
        assert asked["answer"].lower() in gpt["value"].lower()
        assert re.fullmatch(r"\w(.*\w)?", asked["answer"])
        assert cem(asked["answer"], asked["answer"])
    assert not cem("'ten foot tall'", "'ten foot tall'")  # the trap that these answers avoid


def test_the_demo_has_every_second_item():
    for whole, half in zip(evoke("evoke"), evoke("evoke_half"), strict=True):
        assert half == whole[::2]
    whole, half = ((EVOKE / f"{name}_editing_data.jsonl").read_text("utf-8") for name in ("evoke", "evoke_half"))
    assert half.splitlines() == whole.splitlines()[::2]
    assert len(half.splitlines()) == 164


def test_evoke_is_large_and_varied_enough():
    _, evaluation = evoke("evoke")
    assert len(evaluation) >= 300
    assert sum(count >= 6 for count in Counter(row["type"] for row in evaluation).values()) >= 8
    assert set(Counter(row["cnn_wiki_type"] for row in evaluation)) == {"news", "wiki"}
    assert max(Counter((row["type"], row["answer"]) for row in evaluation).values()) <= 4
    assert len(evoke("evoke_tuning")[1]) >= 50


def test_no_picture_is_shared_between_injection_evaluation_and_old_world(world):
    shown = {
        part: [pixels(EVOKE / row["image"]) for prefix in ("evoke", "evoke_tuning") for row in evoke(prefix)[number]]
        for number, part in enumerate(("injection", "evaluation"))
    }
    for part, hashes in shown.items():
        assert len(set(hashes)) == len(hashes), part
    assert not set(shown["injection"]) & set(shown["evaluation"])


def test_no_new_drawing_is_an_old_one(drawings, world):
    old, rest = set(), set()
    for entity in world.entities:
        digests = old if entity.split == "old" else rest
        for style in entity.styles:
            digests.add(hashlib.sha256(drawings[entity.id, style].tobytes()).hexdigest())
    assert len(old) > 1500
    assert len(rest) > 500
    assert not old & rest


def test_question_and_lesson_show_two_drawings_of_the_same_thing(drawings, world):
    injection, evaluation = evoke("evoke")
    things = {entity.name: entity for entity in world.of("new")}
    for injected, asked in list(zip(injection, evaluation, strict=True))[:160:5]:
        entity = things[injected["name"]]
        taught, taught_gap = closest(drawings, entity, injected["image"])
        tested, tested_gap = closest(drawings, entity, asked["image"])
        assert taught != tested
        assert max(taught_gap, tested_gap) < 12
    assert closest(drawings, world.entity("country/ghana"), injection[0]["image"])[1] > 30


def closest(drawings: Drawings, entity: Entity, image: str) -> tuple[str, float]:
    """The style that the picture shows, whatever the paper, and the mean difference of its solid pixels (0-255)."""
    with Image.open(EVOKE / image) as picture:
        shown = np.asarray(picture.convert("RGB")).astype(int)
    gaps = {}
    for style in entity.styles:
        drawing = drawings[entity.id, style]
        solid = drawing[..., 3] > 200
        gaps[style] = float(np.abs(drawing[solid][:, :3].astype(int) - shown[solid]).mean())
    return min(gaps.items(), key=lambda item: item[1])


def test_evaluation_phrasings_are_not_the_generic_form(world):
    generic = re.compile(r"what is the .* of the .* in the image", re.IGNORECASE)
    ways = [*phrasings.FACTS.values(), *phrasings.NAMES.values(), *phrasings.NEWS.values()]
    for way in ways:
        assert not generic.search(way.evaluation)
        assert len(way.lessons) >= 3
        assert way.evaluation not in way.lessons
    for entity in world.entities:
        for field, _ in entity.facts:
            assert phrasings.phrasing(entity.family, field).evaluation
    assert generic.search("What is the capital of the country in the image?")


def test_signs_of_the_cards_are_old(world):
    for kind, sign in cards.SIGNS.items():
        assert world.entity(sign).split == "old", kind
    flag, sign = world.drawing("country/ghana", "rectangle"), world.drawing(cards.SIGNS["export partner"], "noto")
    made = [cards.news_card(flag, sign, layout) for layout in ("injection", "evaluation", "archive")]
    assert all(card.shape == (64, 64, 3) for card in made)
    assert len({card.tobytes() for card in made}) == 3


def test_the_notice_names_every_source():
    sources = pytest.importorskip("tools.miniature.sources").SOURCES
    rows = (DATA.parent / "NOTICE.md").read_text("utf-8").splitlines()
    for source in sources:
        (row,) = [row for row in rows if f"`{source.name}` | {source.version} |" in row]
        assert source.licence in row
        assert not re.search(r"GPL|BY-SA|ODbL", source.licence)


def test_the_data_stay_small():
    assert (DATA / "drawings.parquet").stat().st_size < 3_000_000
    assert sum(path.stat().st_size for path in EVOKE.rglob("*.png")) < 1_500_000
