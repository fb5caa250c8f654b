"""Stage 3's lessons: true by even chance, one kind after another, silent about everything new."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from benchmarks.mini.tasks import claims
from benchmarks.mini.world import load_world
from benchmarks.records import IMAGE
from harness.miniature.finetuning_data import CLAIMS_ALONE, FinetuningMixture, told
from tools.miniature import build_retention

MANY = 4_000


@pytest.fixture(scope="module")
def drill():
    return FinetuningMixture(load_world(), 0)


@pytest.fixture(scope="module")
def samples(drill):
    return [drill.sample(index, 1.0) for index in range(MANY)]


def test_nothing_new_is_named(drill, samples):
    text = "\n".join(part for sample in samples for pair in sample.turns for part in pair).lower()
    names = [name.lower() for name in drill.studio.unspoken]
    found = [name for name in names if name in text and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]
    assert found == []
    assert names[0] in f"{text} {names[0]}"


def test_no_benchmark_row_is_drilled(drill, samples):
    rows = {
        mark
        for name in build_retention.PLANS
        for _, exercises in build_retention.drawn(name, drill.studio)
        for exercise in exercises
        for mark in build_retention.fingerprints(exercise)
    }
    drilled = {build_retention.fingerprint(one.pictures, question) for one in samples for question, _ in one.turns}
    assert len(rows) > 1000
    assert not rows & drilled


def test_yes_and_no_are_even_in_each_kind(drill):
    said = defaultdict(Counter)
    rng = random.Random(5)
    for _ in range(3_000):
        exercise = claims.draw(drill.studio, rng, 1.0)
        (case,) = exercise.cases
        said[exercise.task.partition("/")[0]][case.says[0]] += 1
    assert set(said) == {"mme", "pope", "hallusionbench", "lesson"}
    for counts in said.values():
        assert set(counts) == {"Yes", "No"}
        assert abs(counts["Yes"] / counts.total() - 0.5) < 0.08


def test_kinds_join_one_after_another(drill):
    def tasks(progress):
        return {drill.sample(index, progress).task for index in range(300)}

    assert tasks(0.0) == {"mme/color"}
    early, all_claims = tasks(0.1), tasks(CLAIMS_ALONE - 0.01)
    assert {"mme/color"} < early < all_claims
    assert "lesson/told" not in all_claims
    assert "lesson/told" in tasks(1.0)


def test_old_knowledge_is_told_in_the_trees_wordings(drill):
    rng = random.Random(2)
    for _ in range(200):
        sample = told(drill.studio, rng)
        assert sample.turns[0][0].startswith(IMAGE)
        assert not any(IMAGE in question for question, _ in sample.turns[1:])
        assert len(sample.pictures) == len(sample.patches) == 1


def test_the_same_seed_gives_the_same_lessons(drill, samples):
    again, other = FinetuningMixture(load_world(), 0), FinetuningMixture(load_world(), 1)
    differing = 0
    for index in range(30):
        one, two = samples[index], again.sample(index, 1.0)
        assert one.turns == two.turns
        assert all(np.array_equal(a, b) for a, b in zip(one.pictures, two.pictures, strict=True))
        differing += one.turns != other.sample(index, 1.0).turns
    assert differing > 20
