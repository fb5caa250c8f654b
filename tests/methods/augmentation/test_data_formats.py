"""The same facts as questions and answers, and as a numbered list."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.data.knowledge import load_knowledge
from benchmarks.errors import UserError
from benchmarks.mini.world import DATA
from benchmarks.records import IMAGE
from benchmarks.registry import INJECTION_FILE
from methods.augmentation.formats import numbered_facts, question_answer
from methods.augmentation.templates import SHORT
from methods.augmentation.text_edits import sentences
from methods.registry import registered


@pytest.fixture(scope="module")
def item():
    """Armenia, with eight facts."""
    return load_knowledge(DATA / "evoke" / INJECTION_FILE)[0]


def test_each_fact_is_asked_once_over_the_items_own_picture(item):
    made = list(question_answer(item, 0))
    assert [each.turns[1].text for each in made] == ["Armenia", *(value for _, value in item.facts)]
    assert all(each.pictures == (item.picture,) and len(each.turns) == 2 for each in made)
    assert all(each.turns[0].text.startswith(IMAGE) and each.turns[0].text.endswith(SHORT) for each in made)
    for each, (field, _) in zip(made[1:], item.facts, strict=True):
        assert field in each.turns[0].text
        assert item.name not in each.turns[0].text


def test_the_list_holds_the_name_and_each_fact_in_order(item):
    made = numbered_facts(item, 0)
    lines = made.turns[1].text.splitlines()
    assert [line.split(". ")[0] for line in lines] == [str(number) for number in range(1, 10)]
    assert item.name in lines[0]
    assert all(value in line for line, (_, value) in zip(lines[1:], item.facts, strict=True))
    assert made.turns[0].text == f"{IMAGE}\n{item.prompt}"


def test_without_facts_the_list_has_the_texts_sentences_and_questions_are_refused(item):
    plain = dataclasses.replace(item, facts=())
    lines = numbered_facts(plain, 0).turns[1].text.splitlines()
    assert [line.split(". ", 1)[1] for line in lines] == sentences(item.text)
    lora = registered()["lora"]
    method = lora(lora.Settings(data="question-answer"))
    method.check_data([item])  # control
    with pytest.raises(UserError, match="branch vqa"):
        method.check_data([dataclasses.replace(plain, text="Nobody knows more about it.")])
