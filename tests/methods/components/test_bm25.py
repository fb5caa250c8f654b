"""BM25 against its formula by hand, and what it must not depend on."""

from __future__ import annotations

import math

import pytest

from methods.components.bm25 import BM25

TEXTS = ("the cat sat on the mat", "the dog", "a cat and a cat")


def by_hand(word: str, text: str) -> float:
    words = [each.split() for each in TEXTS]
    own, frequency = text.split(), text.split().count(word)
    containing = sum(word in each for each in words)
    idf = math.log(1 + (len(TEXTS) - containing + 0.5) / (containing + 0.5))
    mean = sum(map(len, words)) / len(words)
    return idf * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * len(own) / mean))


def test_scores_are_those_of_the_formula():
    scores = BM25(TEXTS).scores("The CAT!")
    assert scores == pytest.approx([by_hand("the", text) + by_hand("cat", text) for text in TEXTS])
    assert scores[0] > scores[2] > scores[1] > 0
    assert BM25(TEXTS).scores("cat cat cat")[1] == 0


def test_nothing_shared_scores_nothing():
    assert BM25(TEXTS).scores("Ghana?") == [0, 0, 0]
    assert BM25(TEXTS).scores("") == [0, 0, 0]
    assert BM25([]).scores("cat") == []
    assert BM25(["", ""]).scores("cat") == [0, 0]
