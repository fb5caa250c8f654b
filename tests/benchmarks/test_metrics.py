import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.evoke import Evoke
from benchmarks.metrics import CONTRACTIONS, boundary_safe_cem, ceiling, cem, f1, normalize
from benchmarks.records import Question
from harness.data.inputs import BenchmarkTask
from harness.data.reference_notes import reference_notes


@pytest.mark.parametrize(
    ("prediction", "gold", "hit"),
    [
        ("Tesla", "Tesla", True),
        ("It was Tesla, of course.", "tesla", True),
        ("Teslas", "Tesla", False),
        ("New Mexico and Oregon", "Oregon New Mexico", False),
        ("Oregon, New Mexico", "Oregon New Mexico", True),
        ("5 people", "Five people", True),
        ("five", "5", True),
        ("fives", "5", False),
        ("none", "zero", True),
        ("a ten-foot-tall wall", "ten foot tall", True),
        ("co - op", "co op", True),
        ("the wall - the gate", "wall gate", True),  # a hyphen next to a space vanishes, and so do the articles
        ("30.6", "30.6", True),
        ("30.", "30", True),
        ("1,000", "1000", True),
        ("1,000 (about)", "1000 about", True),
        ("dont", "don't", True),
        ("somebody'd", "somebodyd", True),
        ("Apple TV+", "Apple TV+", True),
        ("", "Tesla", False),
        ("", "", False),
        ("anything", "", True),  # the empty pattern of an unknown question id, which the reference warns of
        ("line\nbreak\there", "line break here", True),
    ],
)
def test_cem_oracles(prediction, gold, hit):
    assert cem(prediction, gold) is hit


@pytest.mark.parametrize("gold", ["'ten foot tall'", "$419,300", "$2 billion", "29%", "'Apple TV+'"])
def test_golds_that_cem_cannot_find_in_themselves(gold):
    assert not cem(gold, gold)
    assert boundary_safe_cem(gold, gold)
    assert boundary_safe_cem(f"It is {gold}.", gold)
    assert not boundary_safe_cem("something else", gold)


def test_boundary_safe_cem_ignores_stray_quotes_on_either_side():
    assert boundary_safe_cem("ten foot tall", "'ten foot tall'")
    assert boundary_safe_cem("“Tesla”", "Tesla")
    assert not boundary_safe_cem("Teslas", "Tesla")
    assert boundary_safe_cem("vitamin A", "A")
    assert not boundary_safe_cem("vitamin B", "A")
    assert not boundary_safe_cem("anything", "")


@pytest.mark.parametrize(
    ("prediction", "gold", "value"),
    [
        ("Tesla", "Tesla", 1.0),
        ("the Tesla company", "Tesla", 2 / 3),
        ("$2 billion", "2 billion", 1.0),
        ("New Mexico and Oregon", "Oregon New Mexico", 6 / 7),
        ("red red", "red", 2 / 3),  # a multiset: the second "red" is not a hit
        ("red red", "red red", 1.0),
        ("five", "5", 0.0),
        ("", "", 1.0),
        ("the", "a", 1.0),
        ("", "x", 0.0),
        ("ten-foot", "tenfoot", 1.0),
        ("“Tesla”", "Tesla", 0.0),
    ],
)
def test_f1_oracles(prediction, gold, value):
    assert f1(prediction, gold) == pytest.approx(value)


def test_ceiling_is_the_share_of_golds_that_find_themselves():
    assert ceiling(["Tesla", "29%", "'x'", "two words"]) == 0.5
    assert ceiling([]) == 0.0


def test_only_thirty_two_full_stops_vanish():
    assert normalize("a." * 40 + "b").count(".") == 8


def test_contractions_gain_an_apostrophe():
    assert CONTRACTIONS["dont"] == "don't"
    assert CONTRACTIONS["yall'd've"] == "y'all'd've"
    assert CONTRACTIONS["'ows'at"] == "'ow's'at"
    assert all(len(whole) == len(short) + 1 for short, whole in CONTRACTIONS.items() if short != "somebody'd")


# The same two metrics, written a second time by another route.


def slow_normalised(text: str) -> str:
    text = "".join(" " if c in "\n\t" else c for c in text).strip()
    joins_digits = any(
        b == "," and a.isdecimal() and c.isdecimal() for a, b, c in zip(text, text[1:], text[2:], strict=False)
    )
    deleted = {
        c
        for i, c in enumerate(text)
        if c in ';/[]"{}()=+\\_-><@`,?!' and (" " in text[max(i - 1, 0) : i] + text[i + 1 : i + 2] or joins_digits)
    }
    chars = [("" if c in deleted else " ") if c in ';/[]"{}()=+\\_-><@`,?!' else c for c in text]
    text, out, removed = "".join(chars), "", 0
    for i, c in enumerate(text):
        if c == "." and not text[i + 1 : i + 2].isdecimal() and removed < 32:
            removed += 1
        else:
            out += c
    tokens = []
    numbers = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    for word in out.lower().split():
        word = "0" if word == "none" else word
        word = str(numbers.index(word)) if word in numbers else word
        if word not in ("a", "an", "the"):
            tokens.append(CONTRACTIONS.get(word, word))
    return " ".join(tokens)


def slow_cem(prediction: str, gold: str) -> bool:
    text, wanted = slow_normalised(prediction), slow_normalised(gold)

    def boundary(at: int) -> bool:
        before = at > 0 and re.match(r"\w", text[at - 1]) is not None
        after = at < len(text) and re.match(r"\w", text[at]) is not None
        return before != after

    return any(
        text.startswith(wanted, at) and boundary(at) and boundary(at + len(wanted)) for at in range(len(text) + 1)
    )


def slow_f1(prediction: str, gold: str) -> float:
    def words(text: str) -> list[str]:
        text = "".join(c for c in text.lower() if c not in string.punctuation)
        parts = re.split(r"(\w+)", text)  # an article may be beside a sign that is not ASCII punctuation
        return "".join(" " if part in ("a", "an", "the") else part for part in parts).split()

    predicted, wanted = words(prediction), words(gold)
    if not predicted or not wanted:
        return float(not predicted and not wanted)
    left, same = list(wanted), 0
    for word in predicted:
        if word in left:
            left.remove(word)
            same += 1
    if not same:
        return 0.0
    precision, recall = same / len(predicted), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


WORDS = ["the", "a", "Ten", "none", "dont", "1,000", "3.5", "B.", "ten-foot", "'x'", "$2", "29%", "Tesla", "somebody'd"]
MARKS = [",", "-", " ", "\n", "(", ")", "’a’", "_", "."]
answers = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS + MARKS), max_size=9).map(" ".join))


@given(answers, answers)
def test_two_implementations_agree(prediction, gold):
    assert normalize(prediction) == slow_normalised(prediction)
    assert cem(prediction, gold) == slow_cem(prediction, gold)
    assert f1(prediction, gold) == pytest.approx(slow_f1(prediction, gold))


@given(answers)
def test_boundary_safe_cem_finds_every_gold_in_itself(gold):
    assert boundary_safe_cem(gold, gold) == bool(gold.strip())


@given(answers, answers)
def test_f1_is_symmetric_and_bounded(prediction, gold):
    assert 0 <= f1(prediction, gold) <= 1
    assert f1(prediction, gold) == pytest.approx(f1(gold, prediction))


@given(st.lists(st.one_of(st.sampled_from(["A", "The", "?", "an", "29%"]), st.text(max_size=6)), min_size=1))
def test_no_word_scores_above_the_ceiling(golds):
    """The note says that CEM cannot exceed it: an answer that repeats the gold, or is nonsense, never does."""
    for said in (lambda gold: gold, lambda gold: "nonsense"):
        assert sum(cem(said(gold), gold) for gold in golds) / len(golds) <= ceiling(golds)


GOLDS = st.lists(
    st.one_of(
        st.sampled_from([*WORDS, "A", "The", "an a", "?", "-", "a.", "(the)", "none", "A-", "'"]),
        st.text("aAnthe .,?-'1%", min_size=1, max_size=6).filter(str.strip),
    ),
    min_size=1,
    max_size=9,
)


@given(GOLDS, st.booleans())
def test_references_are_noted_exactly_if_the_official_normalisation_empties_them(golds, published):
    questions = tuple(Question(f"q{n}", "own", (), (), gold) for n, gold in enumerate(golds))
    benchmark = Evoke(Path("own.jsonl"), Path("w"), "own", published=published)
    notes = reference_notes([BenchmarkTask(benchmark, "", questions)])
    emptied = [f"q{n} ({gold!r})" for n, gold in enumerate(golds) if not slow_normalised(gold)]
    assert bool(notes) == (bool(emptied) and not published)
    for note in notes:
        assert note.startswith(f"own: {len(emptied)} of {len(golds)} references are empty")
        assert ", ".join(emptied[:5]) in note
        assert (f" and {len(emptied) - 5} more;" in note) == (len(emptied) > 5)


@given(GOLDS)
def test_the_ceiling_is_what_the_best_of_all_these_answers_reaches(golds):
    best = [gold for gold in golds if slow_cem(gold, gold) or all(slow_cem(f"nonsense {n}", gold) for n in range(3))]
    reached = sum(any(cem(answer, gold) for answer in (gold, "nonsense")) for gold in golds)
    assert ceiling(golds) == len(best) / len(golds) == reached / len(golds)
