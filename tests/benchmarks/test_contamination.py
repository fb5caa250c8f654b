"""Overlap between training data and evaluation questions, exact and near."""

from __future__ import annotations

import pytest

from benchmarks.contamination import CHUNK, NGRAM, count_contained, measure_overlap, normalize_text
from benchmarks.records import IMAGE, Conversation, Question, Turn
from helpers import tiny

SUFFIX = "\nAnswer the question using a single word or phrase."


def asked(number: int, text: str, reference: str) -> Question:
    return Question(str(number), "EVOKE", (f"{IMAGE}\n{text}{SUFFIX}",), (tiny.picture(0),), reference)


def conversation(name: str, text: str, answer: str, branch: str = "vqa") -> Conversation:
    turns = (Turn("user", f"{IMAGE}\n{text}"), Turn("assistant", answer))
    return Conversation(name, turns, (tiny.picture(1),), branch)


QUESTIONS = [
    asked(1, "Which city is the seat of government of the country in the image?", "Yerevan"),
    asked(2, "Who plays the lead in the film in the image?", "Ann Lee"),
]


def item_of(name: str) -> str:
    return name.split("/")[0]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (f"{IMAGE}\n'What is it?'{SUFFIX}", "what is it"),
        ("Is it A? Answer this question with Yes or No.", "is it a"),
        ("  Ünïcode—Words ", "ünïcode words"),
    ],
)
def test_plain(text, wanted):
    assert normalize_text(text) == wanted


def test_exact_near_and_contained_are_distinguished():
    seat = QUESTIONS[0].turns[0].replace(f"{IMAGE}\n", "")
    made = [
        conversation("1/a", seat, "Yerevan"),  # exactly its item's question and answer
        conversation("1/b", seat.upper(), "It is Yerevan"),  # word for word, another answer
        conversation("2/a", seat, "yerevan"),  # about another item
        conversation("2/b", "Who plays the lead in the films in the image?", "Ann Lee"),  # nearly
        conversation("1/c", "What is the capital of the country in the image?", "Yerevan"),  # an answer alone
        conversation("1/d", "Describe it.", "A country.", branch="caption"),
    ]
    found = measure_overlap(made, QUESTIONS, item_of)
    vqa = found["vqa"]
    assert (vqa.asked, vqa.exact, vqa.near, vqa.answers, vqa.contained) == (5, 3, 4, 3, 1)
    assert found["caption"].asked == 1
    assert (found["caption"].exact, found["caption"].near, found["caption"].contained) == (0, 0, 0)
    assert count_contained(made, QUESTIONS, item_of) == 1
    assert count_contained(made, QUESTIONS, lambda name: "") == 2  # ids that say nothing: any item counts
    again = asked(3, "Which city is the seat of government of the country in the image?", "Baku")
    assert (
        count_contained(made, [*QUESTIONS, again], lambda name: "") == 0
    )  # words shared by several items do not identify one
    assert count_contained(made, [*QUESTIONS, again], item_of) == 1


def test_near_is_the_jaccard_similarity_of_character_n_grams():
    def similarity(one: str, other: str) -> float:
        a, b = ({f" {text} "[i : i + NGRAM] for i in range(len(text) + 3 - NGRAM)} for text in (one, other))
        return len(a & b) / len(a | b)

    question = normalize_text(QUESTIONS[1].turns[0])
    words = question.split()
    for cut in range(len(words)):
        text = " ".join(words[:cut] + words[cut + 1 :])
        near = measure_overlap([conversation("2/a", text, "x")], QUESTIONS, item_of)["vqa"].near
        assert near == (similarity(question, text) >= 0.8), text


def test_long_dialogues_and_many_rows_go_through_in_pieces():
    turns = tuple(Turn(("user", "assistant")[n % 2], f"{IMAGE if n == 0 else ''} turn {n}") for n in range(20))
    many = [Conversation(f"{n}/dialogue", turns, (tiny.picture(0),), "dialogue") for n in range(CHUNK // 5)]
    assert measure_overlap(iter(many), QUESTIONS, item_of)["dialogue"].asked == 10 * len(many)
    assert measure_overlap([], QUESTIONS, item_of) == {}
    assert measure_overlap(many[:1], [], item_of)["dialogue"].near == 0
