"""A name that was made from the file name of a picture is shown, and never trained on."""

from __future__ import annotations

import dataclasses
import json

import pytest

from benchmarks.data.knowledge import injection_row, load_knowledge
from benchmarks.errors import UserError
from benchmarks.registry import INJECTION_FILE
from harness.storage.digests import knowledge_digest
from helpers import published_layout, tiny
from methods.augmentation import datasets
from methods.augmentation.answer_styles import restyle
from methods.augmentation.generators.chat import item_json
from methods.augmentation.grounding import SourceText
from methods.augmentation.knowledge_tree import count_branches, knowledge_tree
from methods.augmentation.made_data import MADE
from methods.augmentation.templates import THIS, TemplateSampler
from methods.registry import registered

NAME = "Zyxwvut"


def items(count: int, *, named: bool):
    return [dataclasses.replace(item, name=f"{NAME} {item.id}", named=named) for item in tiny.knowledge(count)]


def said(conversations) -> str:
    return "\n".join(turn.text for conversation in conversations for turn in conversation.turns)


def test_names_that_evoke_does_not_give_are_marked(tmp_path):
    file = published_layout.write_evoke(tmp_path / "EVOKE", 2) / "json" / "jsonl" / INJECTION_FILE
    read = load_knowledge(file)
    assert [item.named for item in read] == [False, False]
    assert {item.name for item in read} == {"Thing 2", "é"}  # shown all the same
    assert [item.given_name for item in read] == ["", ""]
    rows = json.loads(file.read_text())
    file.write_text(json.dumps([row | {"name": item.name} for row, item in zip(rows, read, strict=True)]))
    given = load_knowledge(file)
    assert all(item.named for item in given)
    assert knowledge_digest(given) != knowledge_digest(read)  # they are trained on differently
    assert ["name" in injection_row(item, "a.png") for item in (given[0], read[0])] == [True, False]


@pytest.mark.parametrize("data", [*MADE])
def test_such_a_name_is_in_no_training_data_made_by_rule(data):
    if data not in ("evoke", "image-agnostic", "image-aware", "text-agnostic", "kore-vqa"):
        assert NAME in said(datasets.conversations(data, items(6, named=True), 0))  # control
    assert NAME not in said(datasets.conversations(data, items(6, named=False), 0))
    mixed = [*items(6, named=False), *tiny.knowledge(9)[6:]]
    assert NAME not in said(datasets.conversations(data, mixed, 0))


def test_without_names_the_tree_has_no_recognition_and_counts_that(caplog):
    knowledge = items(5, named=False)
    counts = count_branches(knowledge)
    made = [conversation.branch for conversation in knowledge_tree(knowledge, 0)]
    assert counts == {"dialogue": 5, "recognition": 0, "caption": 5, "vqa": made.count("vqa")}
    assert {branch: made.count(branch) for branch in made} == {name: count for name, count in counts.items() if count}
    kore = registered()["kore"]
    with pytest.raises(UserError, match=r"branch recognition \(.*as for 5 items, is not trained on"):
        kore(kore.Settings(data="kore")).check_data(knowledge)


def test_a_generator_and_its_checks_do_not_see_it():
    named, nameless = items(1, named=True)[0], items(1, named=False)[0]
    assert NAME in item_json(named)
    assert NAME not in item_json(nameless)
    assert SourceText(named).contains(NAME)
    assert not SourceText(nameless).contains(NAME)


def test_styles_that_say_the_name_are_kept_for_items_that_have_one():
    for named, styles in ((True, {"yes-no", "multiple-choice", "brief", "detailed"}), (False, {"brief", "detailed"})):
        knowledge = items(8, named=named)
        made = restyle(knowledge, datasets.conversations("evoke", knowledge, 0), 1.0, 0)
        assert {conversation.branch for conversation in made} == styles
        assert (NAME in said(made)) == named


def test_a_wording_with_a_name_is_refused():
    sampler = TemplateSampler(items(1, named=False)[0], 0)
    with pytest.raises(UserError, match="has no name"):
        sampler.fill("this", THIS["entity"])
    assert sampler.fill("this", THIS["entity"], name="Bird")  # control: another item's
