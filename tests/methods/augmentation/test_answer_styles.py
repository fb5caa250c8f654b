"""Answer styles: how many, which, from what, and that they ask no evaluation question."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from test_kore import MINI, overlap

from benchmarks.records import IMAGE
from helpers.plain_loop import FakeResources, make
from helpers.tiny import knowledge
from methods.augmentation.answer_styles import STYLES, distractors, restyle
from methods.augmentation.knowledge_tree import published_conversation
from methods.augmentation.templates import TemplateSampler
from methods.registry import get_method


@pytest.fixture(scope="module")
def items():
    from benchmarks.data.knowledge import load_knowledge

    return load_knowledge(MINI / "evoke_injection_data.json")


@pytest.fixture(scope="module")
def styled(items):
    return restyle(items, [published_conversation(item) for item in items], 1.0, seed=0)


def test_a_share_is_rewritten_evenly_and_the_rest_is_untouched():
    pool = knowledge(40)
    plain = [published_conversation(item) for item in pool]
    mixed = restyle(pool, plain, 0.2, seed=0)
    assert [sample.id for sample in mixed] == [sample.id for sample in plain]
    assert Counter(sample.branch for sample in mixed) == {"knowledge": 32, **dict.fromkeys(STYLES, 2)}
    assert all(after == before for before, after in zip(plain, mixed, strict=True) if after.branch == "knowledge")
    assert restyle(pool, plain, 0.0, seed=0) == plain
    assert restyle(pool[::-1], plain, 0.2, seed=0) == mixed  # whatever the order
    assert restyle(pool, plain, 0.2, seed=1) != mixed


def test_every_style_says_what_the_item_says(items, styled):
    answers = Counter()
    for item, sample in zip(items, styled, strict=True):
        asked, answer = (turn.text for turn in sample.turns)
        name = item.name.strip().rstrip(".")
        assert sample.pictures == (item.picture,)
        if sample.branch == "yes-no":
            assert (answer == "Yes") == (name in asked), asked
            answers[answer] += 1
        elif sample.branch == "multiple-choice":
            options = dict(
                line.split(". ", 1) for line in asked.splitlines() if line[:3] in ("A. ", "B. ", "C. ", "D. ")
            )
            assert options[answer] == name
            assert len(set(options.values())) == 4
            answers[answer] += 1
        else:
            limit = {"brief": 20, "detailed": 50}[sample.branch]
            assert f"about {limit} words" in asked
            assert 0 < len(answer.split()) <= limit
            assert item.text.startswith(answer[:10])
    assert set(answers) == {"Yes", "No", *"ABCD"}
    assert 0.3 < answers["Yes"] / (answers["Yes"] + answers["No"]) < 0.7


def test_distractors_are_other_items_of_the_same_type_first(items):
    for item in items[::40]:
        found = distractors(item, items, seed=0)
        assert item.name not in found
        assert len(found) == len(set(found))
        peers = {other.name for other in items if other.type == item.type and other.name != item.name}
        assert set(found[: len(peers)]) == peers


def test_a_lone_item_needs_no_distractors():
    (item,) = knowledge(1)
    for name, style in STYLES.items():
        asked, answer = style(TemplateSampler(item, 0), [])
        assert asked, name
        assert answer in {"Yes", "A"} or len(answer) > 10


def test_the_knowledge_tree_changes_its_captions_alone(items):
    plain = make("lora:kore-data").training_data(items[:20], FakeResources())
    method = make("sefe", data="kore")
    mixed = method.training_data(items[:20], FakeResources())
    assert method.diagnostics({})["rewritten conversations"] == 4
    changed = [(a, b) for a, b in zip(plain, mixed, strict=True) if a != b]
    assert len(changed) == 4
    assert {a.branch for a, _ in changed} == {"caption"}
    assert all(a.pictures == b.pictures and b.turns[0].text.startswith(IMAGE) for a, b in changed)


def test_they_ask_no_evaluation_question(styled):
    lines = [line for path in MINI.glob("*evaluation*.jsonl") for line in path.read_text("utf-8").splitlines()]
    evaluation = [json.loads(line)["text"] for line in lines]
    assert overlap(styled, evaluation) == set()
    leaked = styled[0].turns[0].text.replace(IMAGE, "")
    assert overlap(styled, [leaked]) == {*overlap(styled[:1], [leaked])} != set()  # control


def test_the_method_says_that_it_is_lite():
    method, _ = get_method("sefe")
    assert "SEFE-lite" in method.summary
    assert "template" in method.interpretation
