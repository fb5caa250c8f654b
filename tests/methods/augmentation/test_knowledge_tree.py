"""KORE's augmentation: its shape, that it repeats itself exactly, and that it has seen no evaluation question."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import random
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.data.knowledge import load_knowledge
from benchmarks.records import IMAGE, KnowledgeItem
from benchmarks.registry import EMBEDDED, INJECTION_FILE
from helpers.tiny import picture
from methods.augmentation import templates, text_edits
from methods.augmentation.generators.rule_based import SHORT_QUESTIONS
from methods.augmentation.knowledge_tree import knowledge_tree
from methods.augmentation.pictures import edit_mildly
from methods.augmentation.tree_shape import ROUNDS


def item(number: int = 0, **changes) -> KnowledgeItem:
    made = KnowledgeItem(
        id=f"item-{number}",
        name=f"Atlantis {number}",
        group="entity",
        type="country",
        text="Atlantis is an island state. Its capital is Poseidonis, a port. It uses the obol. Dr. Plato wrote of it.",
        picture=picture(number),
        prompt="Can you describe the country in the image?",
        facts=(("capital", "Poseidonis"), ("currency", "obol"), ("continent", "Europe")),
    )
    return dataclasses.replace(made, **changes)


def by_branch(conversations):
    return {conversation.branch: conversation for conversation in conversations}


def branch_counts(conversations):
    return Counter(conversation.branch for conversation in conversations)


def test_shape_of_the_tree():
    made = knowledge_tree([item()], seed=0)
    assert branch_counts(made) == {"dialogue": 1, "recognition": 1, "caption": 1, "vqa": 3}
    assert len({conversation.id for conversation in made}) == len(made)
    assert all(conversation.turns[0].text.startswith(f"{IMAGE}\n") for conversation in made)
    parts = by_branch(made)
    dialogue = [turn.text for turn in parts["dialogue"].turns]
    assert "Atlantis 0" in dialogue[1]
    assert dialogue[3] == "Its capital is Poseidonis, a port."  # the text's own sentence answers
    assert dialogue[5] == "It uses the obol."
    assert "Europe" in dialogue[7]  # no sentence has it, so a template tells it
    assert dialogue[9] == "Atlantis is an island state."
    assert dialogue[11] == "Dr. Plato wrote of it."
    assert parts["dialogue"].pictures == (item().picture,)
    recognition = parts["recognition"].turns
    assert recognition[0].text.endswith("Answer this question with Yes or No.")
    assert recognition[1].text == "Yes"
    assert "Atlantis 0" in parts["caption"].turns[1].text


def test_short_questions_hide_the_subject_behind_its_hypernym():
    for conversation in knowledge_tree([item(), item(1, group="news", type="election")], seed=3):
        if conversation.branch == "vqa":
            asked, answered = (turn.text for turn in conversation.turns)
            assert asked.endswith(templates.SHORT)
            assert "Atlantis" not in asked
            assert re.search("country|election", asked)
            assert answered in {"Poseidonis", "obol", "Europe"}


def test_an_item_without_facts_still_gets_a_dialogue():
    text = "Atlantis is an island state. People say that it sank. It uses the obol. Dr. Plato wrote of it."
    made = knowledge_tree([item(facts=(), text=text)], seed=0)
    assert branch_counts(made) == {"dialogue": 1, "recognition": 1, "caption": 1}
    assert len(by_branch(made)["dialogue"].turns) == 2 * (1 + 4)


def test_limits_are_kept():
    facts = tuple((f"field {number}", f"value {number}") for number in range(20))
    made = knowledge_tree([item(facts=facts, text="Word " * 200)], seed=0)
    assert branch_counts(made)["vqa"] == SHORT_QUESTIONS
    assert len(by_branch(made)["dialogue"].turns) == 2 * ROUNDS
    assert len(text_edits.summary("Word " * 200).split()) == text_edits.SUMMARY_WORDS


@pytest.mark.parametrize("seed", [0, 7])
def test_the_same_again_whatever_the_company_and_the_order(seed):
    items = [item(number) for number in range(8)]
    together = {c.id: c for c in knowledge_tree(items, seed)}
    shuffled = random.Random(0).sample(items, len(items))
    apart = {c.id: c for each in shuffled for c in knowledge_tree([each], seed)}
    assert together == apart
    assert [c.id for c in knowledge_tree(items, seed)] == list(together)
    assert {c.id: c for c in knowledge_tree(items, seed + 1)} != together  # control


def test_wordings_are_spread():
    asked = {c.turns[0].text for c in knowledge_tree([item(n) for n in range(60)], 0) if c.branch == "caption"}
    assert len(asked) == 5


@pytest.mark.parametrize(
    "name", [n for n in dir(templates) if n.isupper() and not isinstance(getattr(templates, n), str)]
)
def test_each_slot_has_five_different_wordings_that_can_be_filled(name):
    slot = getattr(templates, name)
    for five in slot.values() if not isinstance(slot, tuple) else [slot]:
        assert len(set(five)) == 5
        parts = {"name": "N", "type": "T", "field": "F", "value": "V", "summary": "S", "link": "L", "end": "E"}
        assert len({wording.format(**parts) for wording in five}) == 5


def test_pictures_are_edited_mildly_and_the_same_each_time():
    original = item().picture
    made = [c.pictures[0] for c in knowledge_tree([item()], 0) if c.branch != "dialogue"]
    again = [c.pictures[0] for c in knowledge_tree([item()], 0) if c.branch != "dialogue"]
    assert [p.sha256 for p in made] == [p.sha256 for p in again]
    assert len({p.sha256 for p in [*made, original]}) == len(made) + 1
    before = np.asarray(original.pixels(), dtype=float)
    for one, other in zip(made, again, strict=True):
        after = np.asarray(one.pixels(), dtype=float)
        assert after.shape == before.shape
        assert 0 < np.abs(after - before).mean() < 60
        assert np.array_equal(after, np.asarray(other.pixels(), dtype=float))
        assert one.encoded.startswith(b"\x89PNG")


def test_a_damaged_picture_is_an_error_and_not_an_empty_one():
    from benchmarks.errors import UserError
    from benchmarks.records import Picture

    with pytest.raises(UserError, match="damaged"):
        edit_mildly(Picture(b"no picture"), random.Random(0)).pixels()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Who met J. Smith. They left.", ["Dr. Who met J. Smith.", "They left."]),
        ("No stop at all", ["No stop at all"]),
        ("It costs 3.5 million. Good.", ["It costs 3.5 million.", "Good."]),
        ("", []),
        ("  \n ", []),
    ],
)
def test_sentences(text, wanted):
    assert text_edits.sentences(text) == wanted


@given(st.text(max_size=300))
@settings(max_examples=60)
def test_no_text_breaks_it(text):
    assert "".join("".join(text_edits.sentences(text)).split()) == "".join(text.split())
    assert len(text_edits.summary(text).split()) <= text_edits.SUMMARY_WORDS
    clean = text.replace(IMAGE, "")
    made = knowledge_tree([item(name=clean, text=clean, facts=(("{field}", clean),))], 0)
    assert len(made) == 4


def test_it_is_given_knowledge_and_nothing_else():
    assert list(inspect.signature(knowledge_tree).parameters) == ["knowledge", "seed", "rounds"]


def test_the_miniatures_tree_is_the_one_that_stored_runs_were_trained_on():
    """Its digest, taken before the generator became one of several. Change it only with the tree itself."""
    made = hashlib.sha256()
    for one in knowledge_tree(load_knowledge(EMBEDDED / "evoke" / INJECTION_FILE), 0):
        said = [(turn.role, turn.text) for turn in one.turns]
        made.update(repr((one.id, one.branch, said, [picture.sha256 for picture in one.pictures])).encode())
    assert made.hexdigest() == "dd41b127a8e87f37d486fb03ba8399891b9d62ab4258d15c9d9f3dcf0adc3310"
