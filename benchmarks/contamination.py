"""How much of an evaluation stands in training data: exactly, and nearly by character n-grams."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from benchmarks.records import IMAGE, Conversation, Question

GRAM = 4
"""Characters of an n-gram."""
NEAR = 0.8
"""Jaccard similarity of two texts' n-grams from which they count as nearly the same."""
CHUNK = 2000

_ASIDE = re.compile(r"\s*answer (?:the|this) question[^.]*\.?\s*$", re.IGNORECASE)
ItemOf = Callable[[str], str]
_Grams = tuple[dict[str, int], Any, Any]
"""Column of each n-gram, a sparse matrix (questions, n-grams), and each question's number of n-grams."""


@dataclass(frozen=True)
class BranchOverlap:
    """One branch against the evaluation.

    Args:
        asked: Questions of the branch.
        exact: Of them, those that are an evaluation question word for word.
        near: Those that are nearly one, the exact ones among them.
        answers: Answers of the branch that are, as a whole, the reference of the same item.
        contained: Questions that are an evaluation question about the same item with its reference as answer.
    """

    asked: int
    exact: int
    near: int
    answers: int
    contained: int


def plain(text: str) -> str:
    """A text without marker, instruction, case, punctuation and spacing."""
    text = _ASIDE.sub("", text.replace(IMAGE, " "))
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(words)


def overlap(
    conversations: Iterable[Conversation], questions: Sequence[Question], item_of: ItemOf
) -> dict[str, BranchOverlap]:
    """The overlap of each branch with evaluation questions.

    Args:
        conversations: Training data; read once, a few thousand at a time.
        questions: The evaluation.
        item_of: The item that a conversation's id belongs to. Where that is the id of a question, as in EVOKE, only
            the two of the same item count as contained; else any two with the same answer and the same words, if
            no other question of the evaluation has these words: "Which city is shown?" says nothing of its item.
    """
    evaluation = _Evaluation(questions)
    counts: Counter[tuple[str, str]] = Counter()
    rounds = _rounds(conversations)
    while rows := list(islice(rounds, CHUNK)):
        near = evaluation.near([asked for _, _, asked, _ in rows])
        for (branch, item, asked, answer), similar in zip(rows, near, strict=True):
            exact = asked in evaluation.by_text
            counts[branch, "asked"] += 1
            counts[branch, "exact"] += exact
            counts[branch, "near"] += exact or similar
            counts[branch, "answers"] += evaluation.is_reference(item_of(item), answer)
            counts[branch, "contained"] += evaluation.contains(item_of(item), asked, answer)
    names = BranchOverlap.__dataclass_fields__
    branches = dict.fromkeys(branch for branch, _ in counts)
    return {branch: BranchOverlap(**{name: counts[branch, name] for name in names}) for branch in branches}


def contained(conversations: Iterable[Conversation], questions: Sequence[Question], item_of: ItemOf) -> int:
    """How many evaluation questions stand, with their references as answers, in training data."""
    evaluation = _Evaluation(questions)
    return sum(
        evaluation.contains(item_of(conversation), asked, answer)
        for _, conversation, asked, answer in _rounds(conversations)
    )


def _rounds(conversations: Iterable[Conversation]) -> Iterator[tuple[str, str, str, str]]:
    """(branch, conversation's id, question, answer) of each round, in plain words."""
    for each in conversations:
        said = [plain(turn.text) for turn in each.turns]
        yield from ((each.branch, each.id, asked, told) for asked, told in zip(said[::2], said[1::2], strict=False))


class _Evaluation:
    """Questions, to be looked up by their words."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self.by_text: dict[str, list[tuple[str, str]]] = {}
        self.references: dict[str, set[str]] = {}
        for question in questions:
            reference = plain(question.reference)
            self.references.setdefault(question.id, set()).add(reference)
            self.by_text.setdefault(plain(question.turns[-1]), []).append((question.id, reference))
        self._ids = frozenset(self.references)
        self._grams: _Grams | None = None

    def is_reference(self, item: str, answer: str) -> bool:
        return answer in self.references.get(item, ())

    def contains(self, item: str, asked: str, answer: str) -> bool:
        found = self.by_text.get(asked, ())
        if item in self._ids:
            return any(answer == reference and item == owner for owner, reference in found)
        return len(found) == 1 and answer == found[0][1]

    def near(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is nearly one of the questions."""
        import numpy as np

        known, matrix, sizes = self._indexed()
        rows, lengths = _matrix([_grams(text) for text in texts], known)
        shared = (rows @ matrix.T).tocoo()
        union = lengths[shared.row] + sizes[shared.col] - shared.data
        best = np.zeros(len(texts))
        np.maximum.at(best, shared.row, shared.data / union)
        return [bool(similarity >= NEAR) for similarity in best]

    def _indexed(self) -> _Grams:
        if self._grams is None:
            found = [_grams(text) for text in self.by_text]
            known = {gram: number for number, gram in enumerate(sorted(set().union(*found)))}
            self._grams = (known, *_matrix(found, known))
        return self._grams


def _grams(text: str) -> set[str]:
    padded = f" {text} "
    return {padded[start : start + GRAM] for start in range(max(1, len(padded) - GRAM + 1))}


def _matrix(found: Sequence[set[str]], known: Mapping[str, int]) -> tuple[Any, Any]:
    """(n, grams) of ones, and how many grams each row has, those that nobody else has among them."""
    import numpy as np
    from scipy.sparse import csr_matrix

    rows = [[known[gram] for gram in grams if gram in known] for grams in found]
    ends = np.cumsum([0, *(len(row) for row in rows)])
    columns = np.array([column for row in rows for column in row], dtype=np.int64)
    matrix = csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(rows), max(len(known), 1)))
    return matrix, np.array([len(grams) for grams in found], dtype=float)
