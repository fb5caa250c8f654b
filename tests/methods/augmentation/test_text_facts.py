"""Facts that a rule reads from a text: what it finds, what it leaves, and what is made of them."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.data.knowledge import load_knowledge
from benchmarks.errors import UserError
from benchmarks.records import KnowledgeItem
from benchmarks.registry import EMBEDDED, INJECTION_FILE
from helpers.tiny import picture
from methods.augmentation.generators.rule_based import RuleGenerator
from methods.augmentation.generators.text_facts import facts_in_text
from methods.augmentation.relations import with_relations
from methods.registry import registered


def item(text: str, number: int = 0, **changes) -> KnowledgeItem:
    made = KnowledgeItem(str(number), f"Film {number}", "entity", "film", text, picture(number), "What is it?")
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("Its capital is Poseidonis, a port.", {"capital": "Poseidonis"}),
        ("The director of photography was J. K. de la Cruz.", {"director of photography": "J. K. de la Cruz"}),
        ("The lead actor of Film 0 is Mt. Karel.", {"lead actor": "Mt. Karel"}),
        ("The population of Elbonia is 3.0 million.", {}),  # that of something else
        ("Their highest point was 1,204 metres.", {"highest point": "1,204"}),
        ("It was directed by Ana van der Berg and released on 3 May 2024.",
         {"director": "Ana van der Berg", "release date": "3 May 2024"}),
        ("Written by Ruth Okoye, it premiered in April 2024.", {"writer": "Ruth Okoye", "premiere date": "April 2024"}),
        ("Born in Lagos in 1988, she lives in Oslo.", {"place of birth": "Lagos"}),
        ("The club was founded in 1901 and is based in the City of Rome.", {"founding date": "1901"}),
        ("It is located in March.", {}),  # a month is no place
        ("Its mood is sombre.", {}),
        ("The film is Norway's first, and the second is Dune. The man who is Paul dies.", {}),
        ("Its sponsor is Norway's bank.", {}),
        ("Its capital is Ur. Its capital is Uruk.", {"capital": "Ur"}),
    ],
)  # fmt: skip
def test_what_is_read(text, facts):
    assert dict(facts_in_text(item(text))) == facts


@given(st.text())
def test_each_value_is_in_the_text(text):
    assert all(value in " ".join(text.split()) for _, value in facts_in_text(item(text)))


def test_on_the_miniature_whose_facts_are_known_each_value_is_right_and_most_facts_are_missed():
    knowledge = load_knowledge(EMBEDDED / "evoke" / INJECTION_FILE)
    found = [(value.casefold(), each) for each in knowledge for _, value in facts_in_text(each)]
    assert len(found) == 200
    assert all(value in {given.casefold() for _, given in each.facts} for value, each in found)
    assert sum(len(each.facts) for each in knowledge) == 1256


def test_facts_that_are_given_come_first():
    known = item("Its capital is Ur.", facts=(("rival", "Kish"),))
    assert RuleGenerator(0).facts(known) == (("rival", "Kish"),)
    assert RuleGenerator(0).facts(dataclasses.replace(known, facts=())) == (("capital", "Ur"),)


def test_items_without_facts_get_short_questions_and_relations():
    text = "It was directed by Ana Okoye. Its editor is Person {}."
    known = [item(text.format("ABCD"[n]), n, type=kind) for n, kind in enumerate(("film", "play", "opera", "book"))]
    made = with_relations(known, 0)
    assert {each.turns[1].text for each in made if each.branch == "vqa"} >= {"Ana Okoye", "Person A"}
    asked = [each for each in made if each.branch == "relation"]
    assert asked
    assert all("director" in each.turns[0].text and each.turns[1].text.startswith("Person ") for each in asked)


def test_data_of_relations_without_any_are_refused():
    lora = registered()["lora"]
    method = lora(lora.Settings(data="kore-relations"))
    known = [item("Its editor is Ana."), item("Its host is Ben.", 1)]
    with pytest.raises(UserError, match="in the branch relation "):
        method.check_data(known)
    lora(lora.Settings(data="kore")).check_data(known)  # control
    lora(lora.Settings(data="kore-relations", allow_empty_branches=True)).check_data(known)
