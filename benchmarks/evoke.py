"""EVOKE, the adaptation benchmark: CEM and F1 on the injected knowledge, by News/Entity and by fine-grained type.

Source: EVOKE (arXiv 2505.24449) and its evaluation code; the file formats are EVOKE's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.aggregate import adaptation
from benchmarks.answer_judge import NO_VERDICTS, VERDICT, judge_answers
from benchmarks.answer_judge import VERSION as JUDGING
from benchmarks.base import Benchmark, first_clusters, pair_answers
from benchmarks.data.columns import optional_text, require_columns, require_id, require_text
from benchmarks.data.json_rows import parse_rows
from benchmarks.data.knowledge import GROUPS
from benchmarks.data.picture_values import open_picture
from benchmarks.data.questions import question_row, question_rows, require_picture
from benchmarks.data.rows import folder_of
from benchmarks.errors import UserError, shown
from benchmarks.judges import JudgeClient
from benchmarks.metrics import boundary_safe_cem, ceiling, cem, f1, is_emptied
from benchmarks.records import IMAGE, Answer, ItemScore, Question, Score, Status
from benchmarks.retention_specs import MINI_PREFIX

COLUMNS = ("question_id", "image", "text", "answer", "type", "cnn_wiki_type")
QUESTIONS = 9422
"""Questions of published EVOKE, one per knowledge item. Its own scorer divides by the number of lines in the file."""
NEW_TOKENS = 128
"""Maximum new tokens of one answer in EVOKE's script."""
NAMED = 5
"""Questions that a note names; more are only counted."""
SCORER = "2"
"""Increased whenever the same answers would score differently."""
METRICS: dict[str, Callable[[str, str], float]] = {"CEM": cem, "F1": f1, "CEM_safe": boundary_safe_cem}


class Evoke(Benchmark):
    """Short-answer questions about injected knowledge, each on another picture than the injected one.

    Args:
        data: The evaluation JSONL, a file in another format, or a folder of Parquet or Arrow files whose split ``test``
            is read; pictures are beside it, or under ``imgs/`` beside it.
        workspace: Not used.
        name: The name in the tables.
        max_new_tokens: Maximum new tokens of one answer; None for ``NEW_TOKENS``.
        published: Refuse any number of questions other than EVOKE's.
        judge: A language model that also judges each answer; its verdicts are part of no headline.
    """

    def __init__(
        self,
        data: Path,
        workspace: Path,
        name: str = "EVOKE",
        max_new_tokens: int | None = None,
        published: bool = False,
        judge: JudgeClient | None = None,
    ) -> None:
        super().__init__(data, workspace)
        self.name, self.max_new_tokens, self.published = name, max_new_tokens or NEW_TOKENS, published
        self._has_own_limit, self.judge = max_new_tokens is not None, judge

    @cached_property
    def _questions(self) -> list[Question]:
        hint = "fix or delete these rows; nothing was scored"
        return self._checked(
            list(parse_rows(self.data, question_rows, self._parse_question, hint, key=attrgetter("id")))
        )

    def _checked(self, questions: list[Question]) -> list[Question]:
        if self.published and len(questions) != QUESTIONS:
            raise UserError(
                f"{len(questions):,} questions with unique ids; EVOKE has {QUESTIONS:,}",
                location=str(self.data),
                hint="fetch the file again, or set data.published=false to use your own questions",
            )
        return questions

    def _parse_question(self, raw: dict[str, Any]) -> Question:
        folder = folder_of(self.data)
        row = question_row(raw, folder)
        require_columns(row, COLUMNS, ("category", "ground_truth"))
        group, text, image = optional_text(row, "cnn_wiki_type"), require_text(row, "text"), require_picture(row)
        if group not in GROUPS:
            raise ValueError(f"cnn_wiki_type must be 'news' or 'wiki', not {shown(group)}")
        if IMAGE in text:
            raise ValueError(f"text must not contain the marker {IMAGE}; the picture always comes first")
        picture = open_picture(folder, image)
        return Question(
            id=require_id(row, "question_id"),
            benchmark=self.name,
            turns=(f"{IMAGE}\n{text.strip()}",),
            pictures=(picture,),
            reference=require_text(row, "answer"),
            group=GROUPS[group],
            type=require_text(row, "type"),
            cluster=image if isinstance(image, str) else picture.sha256,
            max_new_tokens=self.max_new_tokens,
        )

    def fingerprint(self) -> str:
        """Sha256 over the questions, their pictures, the version of the scorer and the judge."""
        judge = f" judge {JUDGING} {self.judge.name}" if self.judge else ""
        digest = hashlib.sha256(f"evoke {SCORER} {self.max_new_tokens}{judge}".encode())
        for question in self._questions:
            parts = (question.id, *question.turns, question.reference, question.group, question.type)
            digest.update(repr((parts, question.pictures[0].sha256)).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    @property
    def asking(self) -> str:
        """The protocol and the decoding, in words."""
        return f"EVOKE's script, at most {self.max_new_tokens:,} new tokens, the model's own repetition penalty"

    def signature(self) -> str:
        """How the published benchmark is answered, on one line: EVOKE's scripts leave the penalty to the model."""
        judge = f"|judge {self.judge.name}" if self.judge else ""
        if self.name.startswith(MINI_PREFIX):
            own = f"|max_new_tokens {self.max_new_tokens}" if self._has_own_limit else ""
            return f"{self.name}{own}{judge}"
        return f"{self.name}|max_new_tokens {self.max_new_tokens}|repetition_penalty the model's own{judge}"

    def questions(self, limit: int | None = None) -> list[Question]:
        """All questions in file order, or whole clusters until at least ``limit`` questions are selected.

        Raises:
            UserError: A row is bad; lists all bad rows with their lines.
        """
        return first_clusters(self._questions, limit)

    def score(self, questions: Sequence[Question], answers: Sequence[Answer]) -> Score:
        """CEM, F1, the boundary-safe CEM and the ceiling set by the golds; headline K.A = (CEM + F1) / 2.

        Raises:
            UserError: An answer is missing, duplicated or does not belong to a question (invariant I3).
        """
        pairs = pair_answers(questions, answers)
        items = tuple(_score_item(question, answer) for question, answer in pairs)
        metrics = _means(questions, items)
        metrics["ceiling"] = 100 * ceiling(question.reference for question in questions)
        if emptied := emptied_references(questions):
            metrics["emptied"] = 100 * len(emptied) / len(questions)
        for state in ("empty", "failed"):
            metrics[state] = 100 * fmean([item.status == state for item in items]) if items else 0.0
        headline = adaptation(metrics["CEM"], metrics["F1"]) if items else None
        score = Score(self.name, headline, metrics, items, notes=emptied_notes(questions))
        return _add_verdicts(score, self.judge, pairs) if self.judge and items else score


def emptied_references(questions: Sequence[Question]) -> list[Question]:
    """The questions whose reference is empty after CEM's normalisation: any word is right under CEM."""
    return [question for question in questions if is_emptied(question.reference)]


def emptied_notes(questions: Sequence[Question]) -> tuple[str, ...]:
    """One sentence that counts these questions and names the first; none if there are none."""
    found = emptied_references(questions)
    if not found:
        return ()
    named = ", ".join(f"{question.id} ({question.reference!r})" for question in found[:NAMED])
    more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
    return (
        f"{len(found):,} of {len(questions):,} references are empty after CEM's normalisation, which drops articles "
        f"and punctuation, so any word counts as right: question {named}{more}; CEM with safe word boundaries compares "
        "them verbatim",
    )


def _add_verdicts(score: Score, judge: JudgeClient, pairs: Sequence[tuple[Question, Answer]]) -> Score:
    """Add what the judge says of each answer, and how often it agrees with CEM; CEM and F1 stay as they are."""
    verdicts = judge_answers(judge, pairs)
    if not verdicts.right:
        reason = f"{verdicts.unread:,} of its replies hold no verdict"
        if verdicts.failed:
            reason = f"{verdicts.failed:,} calls failed ({judge.last_error}); the same command makes them again"
        note = f"{NO_VERDICTS}{judge.name}: {reason}"
        return replace(score, judge=judge.name, notes=(*score.notes, note), pending=verdicts.failed)
    items = tuple(
        replace(item, values={**item.values, VERDICT: verdicts.right[item.question_id]}) for item in score.items
    )
    agreement = fmean(item.values[VERDICT] == item.values["CEM"] for item in items)
    metrics = {
        **score.metrics,
        VERDICT: 100 * fmean(item.values[VERDICT] for item in items),
        f"{VERDICT}_agrees_with_CEM": 100 * agreement,
    }
    unread = f"{verdicts.unread:,} replies of {judge.name} hold no verdict; these answers count as incorrect"
    notes = (*score.notes, unread) if verdicts.unread else score.notes
    return replace(score, items=items, metrics=metrics, judge=judge.name, notes=notes)


def _score_item(question: Question, answer: Answer) -> ItemScore:
    text = answer.texts[-1] if answer.texts else ""
    status: Status = "failed" if answer.error else "parsed" if text.strip() else "empty"
    values = {name: float(metric(text, question.reference)) for name, metric in METRICS.items()}
    return ItemScore(question.id, values, status)


def _means(questions: Sequence[Question], items: Sequence[ItemScore]) -> dict[str, float]:
    """Micro-averages on 0-100: overall, by group ("CEM/news") and by type ("CEM/type/film")."""
    parts: dict[str, list[ItemScore]] = {}
    for question, item in zip(questions, items, strict=True):
        for part in ("", f"/{question.group}", f"/type/{question.type}"):
            parts.setdefault(part, []).append(item)
    return {
        f"{name}{part}": 100 * fmean(item.values[name] for item in members)
        for name in METRICS
        for part, members in sorted(parts.items())
    }
