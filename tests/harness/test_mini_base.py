"""The shipped base is what its card says, and shows what it must show before anything is injected."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from scipy.stats import binomtest

from benchmarks.catalogue import find
from benchmarks.mini.world import DATA
from benchmarks.retention import TWELVE, score_many

MODEL = DATA / "model"
METRIC = {"HallusionBench": "aAcc", "MIA-Bench": "total_score", "MMDU": "Overall Score"}


@pytest.fixture(scope="module")
def base():
    import torch

    from harness.models.loading import load_model

    return load_model(MODEL, torch.device("cpu"), torch.float32)


def answered(base, benchmark):
    from harness.answering import answer

    questions = benchmark.questions()
    by_id = {one.question_id: one for batch in answer(base, questions, batch_size=32) for one in batch}
    return questions, [by_id[question.id] for question in questions]


@pytest.fixture(scope="module")
def retention(base, tmp_path_factory):
    """Benchmark name -> (benchmark, score of the untouched base)."""
    benchmarks = [find(f"mini-{spec.name}").open(tmp_path_factory.mktemp("work")) for spec in TWELVE]
    scores = score_many([(benchmark, *answered(base, benchmark)) for benchmark in benchmarks])
    return {spec.name: pair for spec, pair in zip(TWELVE, zip(benchmarks, scores, strict=True), strict=True)}


def above_chance(benchmark, score, metric: str) -> float:
    """One-sided p of at least as many right answers, were each a blind guess at the mean chance."""
    chances = benchmark.chances()
    right = sum(item.values[metric] for item in score.items)
    return float(binomtest(round(right), len(score.items), sum(chances.values()) / len(chances), "greater").pvalue)


@pytest.mark.parametrize("name", [spec.name for spec in TWELVE if not spec.judge or spec.judge == "extract"])
def test_base_against_blind_guessing(retention, name):
    assert above_chance(*retention[name], METRIC.get(name, "acc")) < 0.001


@pytest.mark.parametrize("name", [spec.name for spec in TWELVE if spec.judge == "grade"])
def test_base_follows_what_a_rule_grades(retention, name):
    assert retention[name][1].headline > 50


def test_base_does_not_know_what_is_to_be_injected(base, tmp_path):
    benchmark = find("mini-EVOKE").open(tmp_path)
    assert benchmark.score(*answered(base, benchmark)).metrics["CEM"] < 10


def test_shipped_weights_are_those_of_the_checksum_and_small(base):
    sha256, name = (MODEL / "SHA256SUMS").read_text().split()
    assert hashlib.sha256((MODEL / name).read_bytes()).hexdigest() == sha256
    assert sum(parameter.numel() for parameter in base.module.parameters()) <= 10_000_000
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 20_000_000


def test_log_is_of_the_default_plan():
    from harness.pretraining.stages import PretrainingPlan

    log = json.loads((MODEL / "training_log.json").read_text())
    assert log["plan"] == dataclasses.asdict(PretrainingPlan())


def test_lessons_are_encoded_as_conversations_are(base):
    """Pre-training makes its own batches, for speed; they hold the tokens and labels that injection would give."""
    import torch
    from transformers import PreTrainedTokenizerFast

    from benchmarks.mini.lessons import Lessons
    from benchmarks.mini.world import load_world
    from harness.pretraining.lesson_batches import LessonEncoder, collate

    lessons = Lessons(load_world(), 3)
    encoder = LessonEncoder(PreTrainedTokenizerFast.from_pretrained(MODEL), lessons.names())
    for index in range(40):
        sample = lessons.sample(index, 1.0)
        expected = base.training_batch([sample.conversation("one")])
        batch = collate([encoder.encode(sample)], encoder.pad)
        assert torch.equal(batch["input_ids"], expected["input_ids"])
        assert torch.equal(batch["weights"] > 0, expected["labels"] != -100)
        if "pixel_values" in batch:
            assert torch.allclose(batch["pixel_values"], expected["pixel_values"], atol=1e-6)


def test_card_is_shipped():
    assert "chance" in Path(MODEL / "README.md").read_text("utf-8")
