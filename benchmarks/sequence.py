"""EVOKE's kind of questions in stages: each stage of a task sequence has its own file, and all are one benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from benchmarks.base import first_clusters
from benchmarks.data.json_rows import bad_rows_error
from benchmarks.data.questions import question_rows
from benchmarks.data.rows import row_place
from benchmarks.evoke import Evoke
from benchmarks.records import Question


class EvokeSequence(Evoke):
    """The questions of all stages in their order, with the scores of EVOKE.

    Args:
        stages: The file of each stage's questions, as ``Evoke`` takes it, by the stage's name.
        workspace: Not used.
        name: The name in the tables.
        published: Refuse any number of questions, over all stages, other than EVOKE's.
        max_new_tokens: As for ``Evoke``.
    """

    def __init__(
        self,
        stages: Mapping[str, Path],
        workspace: Path,
        name: str = "EVOKE",
        published: bool = False,
        max_new_tokens: int | None = None,
    ) -> None:
        super().__init__(next(iter(stages.values())), workspace, name, max_new_tokens, published)
        self._stages = {stage: Evoke(file, workspace, name, max_new_tokens) for stage, file in stages.items()}

    @cached_property
    def by_stage(self) -> tuple[tuple[Question, ...], ...]:
        """All questions of each stage, in the order of its file.

        Raises:
            UserError: A row is bad, or an id is used in two stages; lists all such rows with their lines.
        """
        asked = [evoke.questions() for evoke in self._stages.values()]
        files = [evoke.data for evoke in self._stages.values()]
        places: dict[str, tuple[int, int]] = {}
        problems, where = [], files[0]
        for stage, questions in enumerate(asked):
            for index, question in enumerate(questions):
                if question.id in places:
                    first, row = places[question.id]
                    there = row_place(files[first], row, question_rows)
                    here = row_place(where := files[stage], index, question_rows)
                    problems.append(f"{here}: the id {question.id!r} was used in {there} already")
                else:
                    places[question.id] = (stage, index)
        if problems:
            hint = "give the questions of all stages different ids, in the column id or question_id; nothing was scored"
            raise bad_rows_error(problems, where, hint)
        return tuple(_with_own_clusters(self._stages, asked))

    @cached_property
    def _questions(self) -> list[Question]:
        return self._checked([question for questions in self.by_stage for question in questions])

    def questions(self, limit: int | None = None) -> list[Question]:
        """All questions, or of each stage whole clusters until it has its share of the limit.

        Raises:
            UserError: As ``by_stage``.
        """
        if limit is None:
            return list(self._questions)
        shares = deal([len(questions) for questions in self.by_stage], limit)
        return [
            question
            for questions, share in zip(self.by_stage, shares, strict=True)
            for question in first_clusters(questions, share)
        ]


def deal(sizes: Sequence[int], limit: int) -> list[int]:
    """Share a limit among stages, one at a time in turn as far as each has some left.

    Args:
        sizes: What each stage has.
        limit: What all shares together may have.
    """
    shares = [0] * len(sizes)
    while sum(shares) < min(limit, sum(sizes)):
        for stage, size in enumerate(sizes):
            if shares[stage] < size and sum(shares) < limit:
                shares[stage] += 1
    return shares


def _with_own_clusters(names: Iterable[str], asked: Sequence[Sequence[Question]]) -> Iterator[tuple[Question, ...]]:
    """The questions with clusters that two stages share only if they show the same picture.

    Clusters are named after files, and two data sets may call different pictures ``0.png``.
    """
    clusters: dict[str, str] = {}
    for name, questions in zip(names, asked, strict=True):
        taken = set(clusters.values())
        for question in questions:
            own = f"{name}: {question.cluster}" if question.cluster in taken else question.cluster
            clusters.setdefault(question.pictures[0].sha256, own)
        yield tuple(replace(question, cluster=clusters[question.pictures[0].sha256]) for question in questions)
