"""Samples of stage 3: as many true as false claims, one kind after another, nothing about new knowledge."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from benchmarks.mini.tasks import claims
from benchmarks.mini.world import load_world
from benchmarks.records import IMAGE
from harness.miniature.finetuning_data import CLAIMS_ONLY, FinetuningMixture, knowledge_sample
from tools.miniature import build_retention

MANY = 4_000


@pytest.fixture(scope="module")
def mixture():
    return FinetuningMixture(load_world(), 0)


@pytest.fixture(scope="module")
def samples(mixture):
    return [mixture.sample(index, 1.0) for index in range(MANY)]


@pytest.mark.slow
def test_nothing_new_is_named(mixture, samples):
    text = "\n".join(part for sample in samples for pair in sample.turns for part in pair).lower()
    names = [name.lower() for name in mixture.factory.unseen_names]
    found = [name for name in names if name in text and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]
    assert found == []
    assert names[0] in f"{text} {names[0]}"


def test_no_benchmark_row_is_trained_on(mixture, samples):
    rows = {
        mark
        for name in build_retention.PLANS
        for _, exercises in build_retention.draw_instances(name, mixture.factory)
        for exercise in exercises
        for mark in build_retention.fingerprints(exercise)
    }
    trained = {build_retention.fingerprint(one.pictures, question) for one in samples for question, _ in one.turns}
    assert len(rows) > 1000
    assert not rows & trained


def test_yes_and_no_are_even_in_each_kind(mixture):
    said = defaultdict(Counter)
    rng = random.Random(5)
    for _ in range(3_000):
        exercise = claims.sample_claim(mixture.factory, rng, 1.0)
        (case,) = exercise.rows
        said[exercise.task.partition("/")[0]][case.answers[0]] += 1
    assert set(said) == {"mme", "pope", "hallusionbench", "lesson"}
    for counts in said.values():
        assert set(counts) == {"Yes", "No"}
        assert abs(counts["Yes"] / counts.total() - 0.5) < 0.08


def test_kinds_are_added_one_after_another(mixture):
    def tasks(progress):
        return {mixture.sample(index, progress).task for index in range(300)}

    assert tasks(0.0) == {"mme/color"}
    early, all_claims = tasks(0.1), tasks(CLAIMS_ONLY - 0.01)
    assert {"mme/color"} < early < all_claims
    assert "lesson/told" not in all_claims
    assert "lesson/told" in tasks(1.0)


def test_old_knowledge_uses_the_trees_wordings(mixture):
    rng = random.Random(2)
    for _ in range(200):
        sample = knowledge_sample(mixture.factory, rng)
        assert sample.turns[0][0].startswith(IMAGE)
        assert not any(IMAGE in question for question, _ in sample.turns[1:])
        assert len(sample.pictures) == len(sample.patches) == 1


def test_the_same_seed_gives_the_same_samples(mixture, samples):
    again, other = FinetuningMixture(load_world(), 0), FinetuningMixture(load_world(), 1)
    differing = 0
    for index in range(30):
        one, two = samples[index], again.sample(index, 1.0)
        assert one.turns == two.turns
        assert all(np.array_equal(a, b) for a, b in zip(one.pictures, two.pictures, strict=True))
        differing += one.turns != other.sample(index, 1.0).turns
    assert differing > 20
