"""Rows that say neither branch nor item, as KORE-74K's: both follow from what a row has, or the row is refused."""

from __future__ import annotations

import dataclasses
import json

import pytest

from benchmarks.data.knowledge import load_knowledge
from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation, Picture, Turn
from benchmarks.registry import INJECTION_FILE
from helpers import published_layout, tiny
from helpers.log_lines import log_lines
from methods.augmentation import datasets
from methods.augmentation.published import branch_of, match_items

ITEMS = 4


def row(name: str, *texts: str, picture: Picture | None = None) -> Conversation:
    said = [f"{IMAGE}\n{texts[0]}" if picture else texts[0], *texts[1:]]
    turns = tuple(Turn(("user", "assistant")[number % 2], text) for number, text in enumerate(said))
    return Conversation(name, turns, (picture,) if picture else (), "augmented")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """EVOKE's items and the folder of KORE-74K, in their published layout."""
    home = tmp_path_factory.mktemp("published")
    evoke = published_layout.write_evoke(home / "EVOKE", ITEMS)
    knowledge = load_knowledge(evoke / "json" / "jsonl" / INJECTION_FILE)
    return knowledge, published_layout.write_kore_74k(home / "KORE-74K", ITEMS)


@pytest.mark.parametrize(
    ("texts", "branch"),
    [
        (("What is it?", "A bird.", "And where?", "Here."), "dialogue"),
        (("Is it in the image? Answer this question with Yes or No.", "Yes"), "recognition"),
        (("Please describe it.  Answer this question in one paragraph. ", "A bird."), "caption"),
        (("Which one?\nAnswer the question using a single word or phrase.", "A bird"), "vqa"),
        (("What is it?", "A bird."), "augmented"),
        (("Answer the question using a single word or phrase.\nWhich one?", "A bird"), "augmented"),
    ],
)
def test_the_branch_follows_from_the_form_of_the_question(texts, branch):
    assert branch_of(row("1", *texts)) == branch
    assert branch_of(dataclasses.replace(row("1", *texts), branch="mine")) == "mine"


def test_published_rows_have_the_branches_of_the_tree(published):
    knowledge, folder = published
    made = [each.branch for each in datasets.conversations(str(folder), knowledge, 0)]
    assert {branch: made.count(branch) for branch in made} == dict.fromkeys(
        ("dialogue", "recognition", "caption", "vqa"), ITEMS
    )


def test_a_row_is_matched_by_id_answer_or_picture_name_and_never_guessed(tmp_path):
    def at(name: str) -> Picture:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tiny.picture(0).encoded)
        return Picture(path)

    one, two, three = tiny.knowledge(3)
    one = dataclasses.replace(one, id="7", picture=at("wiki/Blue Bird_wiki.jpg"))
    two = dataclasses.replace(two, id="8", picture=at("cnn_1/BYD_1.jpg"))
    three = dataclasses.replace(three, id="9", picture=at("cnn_2/BYD_1.jpg"))
    rows = {
        "7": row("7", "q", "a"),
        "7/vqa/3": row("7/vqa/3", "q", "a"),
        "vqa_8": row("vqa_8", "q", "a"),
        "vqa_8_2": row("vqa_8_2", "q", "a"),
        "answer": row("row-1", "q", "a", "q", f" {three.text} "),
        "picture": row("row-2", "q", "a", picture=at("found/blue bird_0.png")),
        "folder": row("row-3", "q", "a", picture=at("cnn_2/BYD_1.jpg")),
        "shared picture": row("row-4", "q", "a", picture=at("found/BYD_3.jpg")),
        "two items": row("vqa_8", "q", one.text),
        "a mere number": row("row-5", "q", "a", picture=at("found/7.jpg")),
        "unknown": row("10", "q", "a"),
        "a row without an id": row("row-7", "q", "a"),
    }
    found = dict(zip(rows, match_items(list(rows.values()), [one, two, three]), strict=True))
    matched = {"7": "7", "7/vqa/3": "7", "vqa_8": "8", "vqa_8_2": "8", "answer": "9", "picture": "7", "folder": "9"}
    assert found == matched | dict.fromkeys(
        ("shared picture", "two items", "a mere number", "unknown", "a row without an id"), ""
    )


def test_a_part_of_the_items_gets_its_own_published_rows_and_all_items_get_all(published):
    knowledge, folder = published
    with log_lines() as lines:
        parts = [datasets.conversations(str(folder), knowledge[part::2], 0, knowledge) for part in (0, 1)]
    assert [sorted(each.id for each in part) for part in parts] == [
        sorted(f"{kind}_{number}" for kind in ("description", "recognition", "caption", "vqa") for number in numbers)
        for numbers in ((1, 3), (2, 4))
    ]
    assert any("16 of 16 rows that name no item were matched with 4 items" in line for line in lines)
    whole = datasets.conversations(str(folder), knowledge, 0, knowledge)
    assert whole == datasets.conversations(str(folder), knowledge, 0)
    assert sorted(each.id for each in whole) == sorted(each.id for part in parts for each in part)


def test_rows_that_cannot_be_matched_are_refused_with_their_number_and_the_first(published, tmp_path):
    knowledge, folder = published
    rows = json.loads((folder / datasets.PUBLISHED_FILE).read_text())
    for number in (3, 7):  # short questions, whose answers and pictures fit no item
        rows[number]["id"] = 1000 + number
    file = folder / datasets.PUBLISHED_FILE.replace("training_data", "other")
    file.write_text(json.dumps(rows))
    with pytest.raises(UserError) as error:
        datasets.check_items(str(file), knowledge)
    assert "only 14 of 16 rows that name no item could be matched" in str(error.value)
    assert "'1003'" in str(error.value)
    assert "--limit or --stages" in error.value.hint
    with pytest.raises(UserError, match="only 14 of 16"):
        datasets.conversations(str(file), knowledge[:2], 0, knowledge)
    assert len(datasets.conversations(str(file), knowledge, 0, knowledge)) == 16  # control: nothing to divide
    rows[3]["item"], rows[7]["item"] = knowledge[0].id, knowledge[1].id
    file.write_text(json.dumps(rows))
    datasets.check_items(str(file), knowledge)
    assert len(datasets.conversations(str(file), knowledge[:2], 0, knowledge)) == 8
    datasets.check_items("kore", knowledge)
