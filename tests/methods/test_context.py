"""Rows that put knowledge into the prompt: what each asks, by question."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Question
from benchmarks.registry import EMBEDDED
from harness.conformance.fakes import FakeAskingResources
from harness.models.context_window import context_window
from harness.models.picture_features import pooled_features
from harness.models.registry import load_model
from helpers.plain_loop import make
from helpers.tiny import picture
from methods.context import put_before, put_items_before
from methods.golden_context import GoldenContext
from methods.retrieval import Retrieval

RESOURCES = FakeAskingResources()
ITEMS = RESOURCES.knowledge
OWN = picture(77)


def question(name: str = "old", text: str = f"{IMAGE}\nWhat is it?", shown=(OWN,)) -> Question:
    return Question(name, "probe", (text, "And then?"), shown, "")


def test_a_context_stands_before_the_text_and_after_the_pictures_unless_it_has_some():
    asked = put_before(question(), "A fact.")
    assert asked.turns == (f"{IMAGE}\nA fact.\n\nWhat is it?", "And then?")
    assert asked.pictures == (OWN,)
    assert put_before(question(text="Why?", shown=()), "A fact.").turns[0] == "A fact.\n\nWhy?"
    inside = put_before(question(text=f"Is {IMAGE} blue?"), "A fact.")
    assert inside.turns[0] == f"A fact.\n\nIs {IMAGE} blue?"
    other = picture(78)
    asked = put_before(question(), f"{IMAGE} That.", [other])
    assert asked.turns[0] == f"{IMAGE} That.\n\n{IMAGE}\nWhat is it?"
    assert asked.pictures == (other, OWN)


def test_items_are_shown_in_the_words_of_evokes_script():
    item = dataclasses.replace(ITEMS[0], text="It is blue.")
    asked = make("golden-context").ask(question(item.id), RESOURCES)
    line = f"The first image is about an object of {ITEMS[0].type}. {ITEMS[0].text}"
    assert asked.turns[0] == f"{IMAGE}\n{IMAGE}\n{line}\n\nWhat is it?"
    assert asked.pictures == (ITEMS[0].picture, OWN)
    alone = make("golden-context", show_pictures=False).ask(question(item.id), RESOURCES)
    assert alone == put_before(question(item.id), ITEMS[0].text)
    two = put_items_before(question(text="Why?", shown=()), [item, ITEMS[1]], show_pictures=True)
    assert two.turns[0].startswith(
        f"{IMAGE}\n{IMAGE}\nThe first image is about an object of {item.type}. It is blue.\n\n"
    )
    assert f"The second image is about an object of {ITEMS[1].type}. {ITEMS[1].text}\n\nWhy?" in two.turns[0]
    assert two.pictures == (item.picture, ITEMS[1].picture)


def test_golden_context_is_the_text_of_the_questions_own_item_alone():
    method = make("golden-context")
    for item in ITEMS:
        (first, _) = method.ask(question(item.id), RESOURCES).turns
        assert [each.text in first for each in ITEMS] == [each == item for each in ITEMS]
    assert method.ask(question(), RESOURCES) == question()
    assert GoldenContext.oracle
    assert not Retrieval.oracle


def test_examples_are_other_items_with_their_pictures_and_differ_by_question_and_seed():
    method = make("in-context")
    seen = set()
    for name in [item.id for item in ITEMS] * 2 + [f"old-{number}" for number in range(12)]:
        asked = method.ask(question(name), RESOURCES)
        used = [item for item in ITEMS if item.text in asked.turns[0]]
        assert len(used) == 2
        assert name not in {item.id for item in used}
        assert {each.sha256 for each in asked.pictures[:2]} == {item.picture.sha256 for item in used}
        assert asked.pictures[2:] == (OWN,)
        assert all(f"{item.prompt}\n{item.text}" in asked.turns[0] for item in used)
        assert asked == make("in-context").ask(question(name), RESOURCES)
        seen.add(asked.turns[0])
    assert len(seen) > 6, "they are drawn for each question"
    draws = [make("in-context").ask(question(), FakeAskingResources(seed)).turns[0] for seed in range(5)]
    assert len(set(draws)) > 1
    few = make("in-context", examples=9).ask(question(ITEMS[0].id), RESOURCES)
    assert len(few.pictures) == len(ITEMS), "all others, and the question's own"


@pytest.mark.parametrize("count", [1, 3])
def test_retrieval_finds_an_items_own_picture_first(count):
    method = make("retrieval", top_k=count)
    for item in ITEMS:
        (first, _) = method.ask(question(shown=(item.picture,)), RESOURCES).turns
        places = {first.index(each.text): each for each in ITEMS if each.text in first}
        assert len(places) == count
        assert places[min(places)] == item


def test_retrieval_by_pictures_is_the_cosine_of_the_centred_features():
    vectors = RESOURCES.picture_features([item.picture for item in ITEMS]).double()
    (own,) = RESOURCES.picture_features([OWN]).double()
    mean = vectors.mean(0)
    cosines = torch.nn.functional.cosine_similarity(vectors - mean, own - mean)
    expected = ITEMS[int(cosines.argmax())]
    assert expected.text in make("retrieval").ask(question(), RESOURCES).turns[0]


def test_retrieval_by_text_finds_shared_words_and_nothing_where_none_is_shared():
    method = make("retrieval:text")
    named = ITEMS[2]
    text = f"{IMAGE}\nWhat has {named.text.split('with ')[1]}"
    assert named.text in method.ask(question(text=text), RESOURCES).turns[0]
    assert method.ask(question(text=f"{IMAGE}\nPourquoi?"), RESOURCES) == question(text=f"{IMAGE}\nPourquoi?")
    without = question(text=text.removeprefix(f"{IMAGE}\n"), shown=())
    assert named.text in make("retrieval").ask(without, RESOURCES).turns[0], "no picture to compare"


def test_retrieval_follows_the_items_of_a_later_stage():
    method, later = make("retrieval"), FakeAskingResources()
    first = method.ask(question(shown=(ITEMS[0].picture,)), RESOURCES)
    later.knowledge = [dataclasses.replace(item, text=f"New: {item.text}") for item in ITEMS]
    assert "New: " not in first.turns[0]
    assert "New: " in method.ask(question(shown=(ITEMS[0].picture,)), later).turns[0]


@pytest.mark.slow
def test_retrieval_by_clip(clip_folder):
    method = make("retrieval", clip=str(clip_folder))
    assert ITEMS[1].text in method.ask(question(shown=(ITEMS[1].picture,)), RESOURCES).turns[0]
    assert str(clip_folder) not in str(method.settings.cache_key())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model", "model-qwen"])
def test_picture_features_are_averages_of_the_towers_outputs_whatever_the_batch(name):
    model = load_model(EMBEDDED / name, torch.device("cpu"), torch.float32)
    shown = [picture(number) for number in range(3)]
    together = pooled_features(model, shown)
    for row, each in zip(together, shown, strict=True):
        assert torch.allclose(pooled_features(model, [each])[0], row, atol=1e-5)
        (tokens,) = model.vision_encoder.encode(model.inner, [each])
        assert torch.allclose(tokens.detach().mean(0), row, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-2)
    assert context_window(model) == 1024


def test_bad_settings_and_foreign_tensors_are_refused():
    with pytest.raises(UserError, match="by=picture"):
        make("retrieval:text", clip="somewhere")
    with pytest.raises(UserError, match="top_k"):
        make("retrieval", top_k=0)
    with pytest.raises(UserError, match=r"config\.json is missing"):
        make("retrieval", clip="nowhere").settings.cache_key()
    with pytest.raises(UserError, match="another method"):
        make("golden-context").restore(None, {"weight": torch.ones(1)})
