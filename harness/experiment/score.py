"""From answers to scores. A score exists only if each question has exactly one answer (invariant I3)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.base import Benchmark
from benchmarks.records import Answer, ItemScore, Question, Score
from benchmarks.retention import Retention, score_batch
from harness.data.inputs import BenchmarkTask
from harness.experiment.cell import SCORES, scores_key
from harness.experiment.outputs import CellOutput
from harness.storage.digests import canonical
from harness.storage.store import CacheKey, Store

ScoringJob = tuple[Benchmark, Sequence[Question], Sequence[Answer]]


def score_all(store: Store, outputs: Sequence[CellOutput], tasks: Sequence[BenchmarkTask]) -> tuple[int, int]:
    """Fill in the scores of all cells that were answered: stored ones, and all others in one batch.

    Returns:
        The number of stored scores and the number of computed ones.

    Raises:
        UserError: Answers do not match the questions, or a scorer failed.
    """
    missing: list[tuple[dict[str, Score], ScoringJob, CacheKey]] = []
    reused = 0
    for scores, task, answers in _answered(outputs, tasks):
        key = scores_key(answers, task.fingerprint, task.questions)
        row = store.read_json(SCORES, key)
        if row is None:
            missing.append((scores, (task.benchmark, task.questions, answers), key))
        else:
            scores[task.name] = _score(row)
            reused += 1
    for (scores, job, key), score in zip(missing, _compute([job for _, job, _ in missing]), strict=True):
        # A score with failed calls to a judge is not stored, so that the next run asks the judge again.
        row = _as_stored(score) if score.pending else store.write_json(SCORES, key, _row(score))
        scores[job[0].name] = _score(row)
    return reused, len(missing)


def rescore_all(outputs: Sequence[CellOutput], tasks: Sequence[BenchmarkTask]) -> int:
    """Compute all scores again, whatever is stored; returns their number.

    Raises:
        UserError: As ``score_all``.
    """
    answered = list(_answered(outputs, tasks))
    jobs = [(task.benchmark, task.questions, answers) for _, task, answers in answered]
    for (scores, task, _), score in zip(answered, _compute(jobs), strict=True):
        scores[task.name] = _score(_as_stored(score))
    return len(answered)


def _answered(
    outputs: Sequence[CellOutput], tasks: Sequence[BenchmarkTask]
) -> Iterator[tuple[dict[str, Score], BenchmarkTask, Sequence[Answer]]]:
    """All answers of cells and of their stages, each with its task and the dict for its score."""
    for output in outputs:
        for task in tasks:
            if task.name in output.answers:
                yield output.scores, task, output.answers[task.name].answers
        for stage in output.stages:
            if stage.task is not None and stage.answers is not None and stage.answers.answers:
                yield stage.scores, stage.task, stage.answers.answers


def _compute(jobs: Sequence[ScoringJob]) -> list[Score]:
    """One score for each job; those of retention benchmarks in one process, because starting it takes seconds."""
    retention = [
        (benchmark, questions, answers) for benchmark, questions, answers in jobs if isinstance(benchmark, Retention)
    ]
    batch = iter(score_batch(retention))
    return [
        next(batch) if isinstance(benchmark, Retention) else benchmark.score(questions, answers)
        for benchmark, questions, answers in jobs
    ]


def _as_stored(score: Score) -> dict[str, Any]:
    """The row as it would be read from the store."""
    row: dict[str, Any] = json.loads(canonical(_row(score)))
    return row


def _row(score: Score) -> dict[str, Any]:
    """A score as JSON, without metrics that are not finite."""
    return {
        "benchmark": score.benchmark,
        "headline": score.headline,
        "metrics": _finite(score.metrics),
        "items": [[item.question_id, _finite(item.values), item.status] for item in score.items],
        "judge": score.judge,
        "notes": list(score.notes),
    }


def _score(row: dict[str, Any]) -> Score:
    return Score(
        benchmark=row["benchmark"],
        headline=row["headline"],
        metrics=row["metrics"],
        items=tuple(ItemScore(question_id, values, status) for question_id, values, status in row["items"]),
        judge=row["judge"],
        notes=tuple(row["notes"]),
    )


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}
