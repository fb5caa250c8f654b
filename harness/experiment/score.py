"""From answers to scores. A score exists only where each question has exactly one answer (invariant I3)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.base import Benchmark
from benchmarks.records import Answer, ItemScore, Question, Score
from benchmarks.retention import Retention, score_many
from harness.data.inputs import BenchmarkTask
from harness.experiment.cell import SCORES, scores_recipe
from harness.experiment.products import CellOutput
from harness.storage.digests import answers_digest
from harness.storage.store import CacheKey, Store, canonical

Job = tuple[Benchmark, Sequence[Question], Sequence[Answer]]


def score_all(store: Store, products: Sequence[CellOutput], asked: Sequence[BenchmarkTask]) -> tuple[int, int]:
    """Fill in the scores of every cell that was answered: stored ones, and the others in one go.

    Returns:
        How many scores were there already, and how many were computed.

    Raises:
        UserError: An answer is missing, doubled or belongs to no question, or a scorer failed.
    """
    missing: list[tuple[dict[str, Score], Job, CacheKey]] = []
    reused = 0
    for scores, each, answers in _answered(products, asked):
        recipe = scores_recipe(answers_digest(answers), each.fingerprint, each.questions)
        found = store.read_json(SCORES, recipe)
        if found is None:
            missing.append((scores, (each.benchmark, each.questions, answers), recipe))
        else:
            scores[each.name] = _score(found)
            reused += 1
    for (scores, job, recipe), score in zip(missing, _scores([job for _, job, _ in missing]), strict=True):
        if score.pending:
            scores[job[0].name] = _score(json.loads(canonical(_row(score))))  # not kept: the next run asks again
        else:
            scores[job[0].name] = _score(store.write_json(SCORES, recipe, _row(score)))
    return reused, len(missing)


def score_fresh(products: Sequence[CellOutput], asked: Sequence[BenchmarkTask]) -> int:
    """Compute every score again, whatever is stored; returns how many.

    Raises:
        UserError: As ``score_all``.
    """
    found = list(_answered(products, asked))
    jobs = [(each.benchmark, each.questions, answers) for _, each, answers in found]
    for (scores, each, _), score in zip(found, _scores(jobs), strict=True):
        scores[each.name] = _score(json.loads(canonical(_row(score))))
    return len(found)


def _answered(
    products: Sequence[CellOutput], asked: Sequence[BenchmarkTask]
) -> Iterator[tuple[dict[str, Score], BenchmarkTask, Sequence[Answer]]]:
    """All that was answered, by cells and by their stages, and where its score belongs."""
    for product in products:
        for each in asked:
            if each.name in product.answers:
                yield product.scores, each, product.answers[each.name]
        for stage in product.stages:
            if stage.asked is not None and stage.answers:
                yield stage.scores, stage.asked, stage.answers


def _scores(jobs: Sequence[Job]) -> list[Score]:
    """One score for each job; those of the twelve are computed in one process, whose start takes seconds."""
    together = [
        (benchmark, questions, answers) for benchmark, questions, answers in jobs if isinstance(benchmark, Retention)
    ]
    found = iter(score_many(together))
    return [
        next(found) if isinstance(benchmark, Retention) else benchmark.score(questions, answers)
        for benchmark, questions, answers in jobs
    ]


def _row(score: Score) -> dict[str, Any]:
    """A score as JSON has it. A metric that is no number is left out, for it says nothing."""
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


def _finite(values: Any) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}
