"""Measure how much of an evaluation occurs in training data: exactly, and nearly by character n-grams."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from benchmarks.records import IMAGE, Conversation, Question

NGRAM = 4
"""Characters of an n-gram."""
NEAR = 0.8
"""Minimum Jaccard similarity of two texts' n-grams to count as nearly the same."""
CHUNK = 2000
"""Rounds that are compared at once."""

_INSTRUCTION = re.compile(r"\s*answer (?:the|this) question[^.]*\.?\s*$", re.IGNORECASE)
ItemOf = Callable[[str], str]
_NgramIndex = tuple[dict[str, int], Any, Any]
"""Column of each n-gram, a sparse matrix (questions, n-grams), and each question's number of n-grams."""


@dataclass(frozen=True)
class BranchOverlap:
    """Overlap of one branch with the evaluation.

    Args:
        asked: Questions of the branch.
        exact: Questions that equal an evaluation question word for word.
        near: Questions that equal or nearly equal one.
        answers: Answers that equal the reference of the same item.
        contained: Questions that equal an evaluation question about the same item and have its reference as answer.
    """

    asked: int
    exact: int
    near: int
    answers: int
    contained: int


def normalize_text(text: str) -> str:
    """Remove marker, instruction, case, punctuation and extra spaces from a text."""
    text = _INSTRUCTION.sub("", text.replace(IMAGE, " "))
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(words)


def measure_overlap(
    conversations: Iterable[Conversation], questions: Sequence[Question], item_of: ItemOf
) -> dict[str, BranchOverlap]:
    """Measure the overlap of each branch with the evaluation questions.

    Args:
        conversations: Training data; read once, in chunks.
        questions: The evaluation.
        item_of: Maps a conversation's id to its item. If items have the ids of questions, as in EVOKE, a question is
            contained only if both are about the same item. Otherwise the same words and answer suffice, unless several
            evaluation questions have these words: "Which city is shown?" does not identify an item.
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


def count_contained(conversations: Iterable[Conversation], questions: Sequence[Question], item_of: ItemOf) -> int:
    """Count training questions that equal an evaluation question and have its reference as answer."""
    evaluation = _Evaluation(questions)
    return sum(
        evaluation.contains(item_of(conversation), asked, answer)
        for _, conversation, asked, answer in _rounds(conversations)
    )


def _rounds(conversations: Iterable[Conversation]) -> Iterator[tuple[str, str, str, str]]:
    """Yield (branch, conversation's id, question, answer) for each round, with normalized texts."""
    for conversation in conversations:
        texts = [normalize_text(turn.text) for turn in conversation.turns]
        for asked, answer in zip(texts[::2], texts[1::2], strict=False):
            yield conversation.branch, conversation.id, asked, answer


class _Evaluation:
    """The evaluation's questions, indexed by their words."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self.by_text: dict[str, list[tuple[str, str]]] = {}
        self.references: dict[str, set[str]] = {}
        for question in questions:
            reference = normalize_text(question.reference)
            self.references.setdefault(question.id, set()).add(reference)
            self.by_text.setdefault(normalize_text(question.turns[-1]), []).append((question.id, reference))
        self._ids = frozenset(self.references)
        self._index: _NgramIndex | None = None

    def is_reference(self, item: str, answer: str) -> bool:
        return answer in self.references.get(item, ())

    def contains(self, item: str, asked: str, answer: str) -> bool:
        matches = self.by_text.get(asked, ())
        if item in self._ids:
            return any(answer == reference and item == owner for owner, reference in matches)
        return len(matches) == 1 and answer == matches[0][1]

    def near(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text nearly equals one of the questions."""
        import numpy as np

        columns, matrix, sizes = self._ngram_index()
        rows, lengths = _matrix([_ngrams(text) for text in texts], columns)
        shared = (rows @ matrix.T).tocoo()
        union = lengths[shared.row] + sizes[shared.col] - shared.data
        best = np.zeros(len(texts))
        np.maximum.at(best, shared.row, shared.data / union)
        return [bool(similarity >= NEAR) for similarity in best]

    def _ngram_index(self) -> _NgramIndex:
        if self._index is None:
            ngrams = [_ngrams(text) for text in self.by_text]
            columns = {ngram: number for number, ngram in enumerate(sorted(set().union(*ngrams)))}
            self._index = (columns, *_matrix(ngrams, columns))
        return self._index


def _ngrams(text: str) -> set[str]:
    padded = f" {text} "
    return {padded[start : start + NGRAM] for start in range(max(1, len(padded) - NGRAM + 1))}


def _matrix(ngrams: Sequence[set[str]], columns: Mapping[str, int]) -> tuple[Any, Any]:
    """A sparse 0/1 matrix (texts, columns), and each text's number of n-grams, including those without a column."""
    import numpy as np
    from scipy.sparse import csr_matrix

    rows = [[columns[ngram] for ngram in row if ngram in columns] for row in ngrams]
    ends = np.cumsum([0, *(len(row) for row in rows)])
    indices = np.array([column for row in rows for column in row], dtype=np.int64)
    matrix = csr_matrix((np.ones(len(indices)), indices, ends), shape=(len(rows), max(len(columns), 1)))
    return matrix, np.array([len(row) for row in ngrams], dtype=float)
