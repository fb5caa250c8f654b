"""The interface of every benchmark, and two helpers that benchmarks share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import UserError
from benchmarks.records import Answer, Question, Score
from benchmarks.thinking import without_thinking


class Benchmark(ABC):
    """A set of questions with a scorer.

    Args:
        data: The file or folder that holds the benchmark.
        workspace: A private folder for scratch files (decoded pictures, a scorer's own outputs).
    """

    name: str
    has_headline = True
    """Whether it has a headline score; without one, its numbers have a table of their own."""

    def __init__(self, data: Path, workspace: Path) -> None:
        self.data, self.workspace = data, workspace

    @property
    def asking(self) -> str:
        """The protocol and the decoding by which the published benchmark is asked, in words."""
        return ""

    @abstractmethod
    def fingerprint(self) -> str:
        """Sha256 over the content of the data and the version of the scorer."""

    @abstractmethod
    def questions(self, limit: int | None = None) -> list[Question]:
        """All questions in file order, or whole clusters until at least ``limit`` questions are selected."""

    @abstractmethod
    def score(self, questions: Sequence[Question], answers: Sequence[Answer]) -> Score:
        """Score exactly one answer for each question.

        Raises:
            UserError: An answer is missing, duplicated or does not belong to a question (invariant I3).
        """


def first_clusters(questions: Sequence[Question], limit: int | None) -> list[Question]:
    """Select whole clusters in order of appearance until at least ``limit`` questions are selected.

    Clusters are never split and the questions keep their order. None selects all.
    """
    if limit is None:
        return list(questions)
    sizes: dict[str, int] = {}
    for question in questions:
        sizes[question.cluster] = sizes.get(question.cluster, 0) + 1
    chosen: set[str] = set()
    count = 0
    for cluster, size in sizes.items():
        if count >= limit:
            break
        chosen.add(cluster)
        count += size
    return [question for question in questions if question.cluster in chosen]


def pair_answers(questions: Sequence[Question], answers: Sequence[Answer]) -> list[tuple[Question, Answer]]:
    """Match answers to questions by id, in the questions' order, each without its thinking block.

    Raises:
        UserError: A question has no answer or several, or an answer does not belong to a question.
    """
    by_id: dict[str, Answer] = {}
    for answer in answers:
        if answer.question_id in by_id:
            raise UserError(f"question {answer.question_id} is answered twice", hint="delete the answers and run again")
        by_id[answer.question_id] = answer
    expected = {question.id for question in questions}
    if len(expected) != len(questions):
        raise UserError("two questions share an id", hint="give each row of the benchmark its own id")
    missing, unknown = expected - by_id.keys(), by_id.keys() - expected
    if missing or unknown:
        raise UserError(
            f"{len(missing)} questions have no answer and {len(unknown)} answers have no question",
            hint="run the command again; it answers only what is missing",
        )
    return [(question, without_thinking(by_id[question.id])) for question in questions]
