"""Each shipped base is as its card says, and has the abilities that injection builds on."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
from scipy.stats import binomtest

from benchmarks.mini.world import DATA
from benchmarks.registry import get_benchmark
from benchmarks.retention import score_batch
from benchmarks.retention_specs import SPECS

FAMILIES = {
    "model": "llava",
    "model-qwen": "qwen",
    "model-extraction": "extraction",
    "model-qwen-extraction": "extraction",
}
METRIC = {"HallusionBench": "aAcc", "MIA-Bench": "total_score", "MMDU": "Overall Score"}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] * (place > 0)) for place, name in enumerate(FAMILIES)],
)
def folder(request):
    return DATA / request.param


@pytest.fixture(scope="module")
def base(folder):
    import torch

    from harness.models.registry import load_model

    return load_model(folder, torch.device("cpu"), torch.float32)


def answered(base, benchmark):
    from harness.models.batched_generation import answer

    questions = benchmark.questions()
    by_id = {one.question_id: one for batch in answer(base, questions, batch_size=32) for one in batch}
    return questions, [by_id[question.id] for question in questions]


def above_chance(benchmark, score, metric: str) -> float:
    """One-sided p of at least as many right answers, were each a blind guess at the mean chance."""
    chances = benchmark.chance_levels()
    right = sum(item.values[metric] for item in score.items)
    return float(binomtest(round(right), len(score.items), sum(chances.values()) / len(chances), "greater").pvalue)


@pytest.mark.slow
def test_base_is_above_chance_and_below_the_ceiling(base, tmp_path):
    """One test for all benchmarks, since answering takes half a minute. Rule-based grades have no chance level."""
    benchmarks = [get_benchmark(f"mini-{spec.name}").open(tmp_path) for spec in SPECS]
    scores = score_batch([(benchmark, *answered(base, benchmark)) for benchmark in benchmarks])
    weak = {}
    for spec, benchmark, score in zip(SPECS, benchmarks, scores, strict=True):
        if spec.judge == "grade":
            weak |= {spec.name: score.headline} if score.headline <= 50 else {}
        else:
            p = above_chance(benchmark, score, METRIC.get(spec.name, "acc"))
            weak |= {spec.name: p} if p >= 0.001 else {}
    assert weak == {}
    by_name = dict(zip((spec.name for spec in SPECS), scores, strict=True))
    assert by_name["POPE"].headline < 95  # at the ceiling nothing could be seen to be forgotten
    assert by_name["HallusionBench"].metrics["aAcc/table"] > 70  # of 64 answers: p < 0.001


@pytest.mark.slow
def test_base_does_not_know_what_is_to_be_injected(base, tmp_path):
    benchmark = get_benchmark("mini-EVOKE").open(tmp_path)
    assert benchmark.score(*answered(base, benchmark)).metrics["CEM"] < 10


def test_shipped_weights_match_the_checksum_and_are_small(base, folder):
    sha256, name = (folder / "SHA256SUMS").read_text().split()
    assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
    assert sum(parameter.numel() for parameter in base.module.parameters()) <= 10_000_000
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 20_000_000


def test_log_matches_the_familys_plan(folder):
    from harness.miniature.pretrain import EXTRACTION_PLAN, PLANS

    plans = {**PLANS, "extraction": EXTRACTION_PLAN}
    log = json.loads((folder / "training_log.json").read_text())
    assert log["plan"] == dataclasses.asdict(plans[FAMILIES[folder.name]])


def test_card_is_shipped(folder):
    assert "chance" in (folder / "README.md").read_text("utf-8")
