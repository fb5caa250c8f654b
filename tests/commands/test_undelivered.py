"""What was asked for and not delivered is listed; what is complete is not."""

from __future__ import annotations

import dataclasses

from harness.commands.undelivered import list_undelivered
from reports.marks import UNJUDGED
from reports.record import BenchmarkResult, CellResult, ItemResult, Run

RIGHT = ItemResult("q0", {"acc": 1.0}, "A")
SCORED = BenchmarkResult(100.0, {"acc": 100.0}, (RIGHT,))
UNSCORED = BenchmarkResult(None, {}, (RIGHT,), notes=("an earlier note", "the judge: no route"), marks=(UNJUDGED,))
FAILED = BenchmarkResult(0.0, {"acc": 0.0}, (dataclasses.replace(RIGHT, status="failed"),))
WITHOUT_HEADLINE = BenchmarkResult(None, {"T-Loc": 90.0}, (RIGHT,))


def cell(label, status="ok", seed=0, **scores):
    reason = "" if status == "ok" else "no memory"
    return CellResult("mini", label, label, seed, status=status, reason=reason, scores=scores)


def test_a_complete_run_has_delivered_everything():
    cells = (cell("vanilla", POPE=SCORED, Editing=WITHOUT_HEADLINE), cell("lora", "diverged"))
    assert list_undelivered(Run("x", cells=cells)) == []


def test_failed_rows_unscored_benchmarks_and_failed_answers_are_named():
    cells = (
        cell("vanilla", POPE=SCORED, MMDU=UNSCORED),
        cell("lora", seed=1, POPE=FAILED, MMDU=UNSCORED),
        cell("kore", "oom"),
    )
    assert list_undelivered(Run("x", cells=cells)) == [
        "kore seed 0: oom: no memory",
        "POPE: 1 answers failed in lora seed 1",
        "MMDU: not scored in all rows; the judge: no route",
    ]
