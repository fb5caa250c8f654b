"""Intervals cover, tests keep their level, corrections are right: all against known true values."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.statistics import resampling as s


def one(values, clusters=None, weights=None):
    values = np.asarray(values, dtype=float)
    clusters = np.arange(len(values)) if clusters is None else np.asarray(clusters)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
    over = values.reshape(len(values), -1, 1) * weights[:, None, None]
    return s.ClusterSums.from_items(over, np.ones_like(over) * weights[:, None, None], clusters)


def null(base, other, seed=1, flips=s.N_PERMUTATIONS):
    return s.permutation_null(one(np.stack([base, other], axis=1)), [(1, 0)], seed, flips)[0]


def coverage(truths, clusters, per_cluster, concentration, seed=0, draws=400):
    """Share of intervals that cover the truth when a cluster's questions share a beta-distributed chance of success."""
    generator = np.random.default_rng(seed)
    hits = 0
    for trial, truth in enumerate(truths):
        if concentration:
            chance = generator.beta(truth * concentration, (1 - truth) * concentration, clusters)
        else:
            chance = np.full(clusters, truth)
        right = generator.random((clusters, per_cluster)) < chance[:, None]
        sums = one(right.ravel(), np.repeat(np.arange(clusters), per_cluster))
        mean = float(sums.scores()[0])
        low, high = s.boundary_interval(mean, clusters) or s.percentile_interval(
            s.clustered_bootstrap(sums, trial, draws)[:, 0], clusters
        )
        hits += low <= truth <= high
    return hits / len(truths)


@pytest.mark.parametrize(("clusters", "per_cluster", "concentration"), [(60, 1, None), (100, 2, 3.0), (40, 6, 2.0)])
def test_95_percent_intervals_hold_93_to_97_percent_of_2000_truths(clusters, per_cluster, concentration):
    truths = np.random.default_rng(1).uniform(0.15, 0.85, 2000)
    assert 0.93 <= coverage(truths, clusters, per_cluster, concentration) <= 0.97


def test_ignoring_clusters_would_fail_the_coverage_test():
    """Positive control: the same questions taken as independent give intervals that are too narrow."""
    generator = np.random.default_rng(2)
    hits = 0
    for trial in range(300):
        chance = generator.beta(1, 1, 30)
        right = generator.random((30, 8)) < chance[:, None]
        low, high = s.percentile_interval(s.clustered_bootstrap(one(right.ravel()), trial, 400)[:, 0], right.size)
        hits += low <= 0.5 <= high
    assert hits / 300 < 0.85


def test_interval_matches_the_normal_one_for_a_large_sample():
    generator = np.random.default_rng(3)
    values = generator.random(4000)
    low, high = s.percentile_interval(s.clustered_bootstrap(one(values), 7, 4000)[:, 0], 4000)
    half = 1.96 * values.std() / np.sqrt(4000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=half * 0.1)


def test_rows_share_their_resamples():
    values = np.random.default_rng(4).random((50, 1)) @ np.ones((1, 2))
    draws = s.clustered_bootstrap(one(values), 1)
    assert np.array_equal(draws[:, 0], draws[:, 1])
    assert draws[:, 0].std() > 0


def test_equal_seeds_give_equal_draws_however_they_are_chunked(monkeypatch):
    sums = one(np.random.default_rng(5).random(30))
    whole = s.clustered_bootstrap(sums, 9)
    assert np.array_equal(whole, s.clustered_bootstrap(sums, 9))
    assert not np.array_equal(whole, s.clustered_bootstrap(sums, 10))
    monkeypatch.setattr(s, "_CHUNK", 90)
    assert np.allclose(whole, s.clustered_bootstrap(sums, 9))


def test_weights_count():
    assert one([1, 0, 0], weights=[2, 1, 1]).scores()[0] == 0.5


def test_boundary_is_clopper_pearson():
    expected = stats.binomtest(0, 50).proportion_ci(0.95, method="exact")
    assert s.boundary_interval(0.0, 50) == pytest.approx((expected.low, expected.high))
    expected = stats.binomtest(50, 50).proportion_ci(0.95, method="exact")
    assert s.boundary_interval(1.0, 50) == pytest.approx((expected.low, expected.high))
    assert s.boundary_interval(0.4, 50) is None
    assert s.boundary_interval(float("nan"), 50) is None  # as of a benchmark that no judge has graded


def test_swaps_agree_with_mcnemar():
    base = np.array([0.0] * 14 + [1.0] * 4 + [0.0] * 40)
    other = np.array([1.0] * 14 + [0.0] * 4 + [0.0] * 40)
    exact = s.mcnemar_p_value(one(np.stack([base, other], axis=1)), 1, 0)
    assert exact == pytest.approx(stats.binomtest(14, 18, 0.5).pvalue)
    assert s.permutation_p_value(10 / 58, null(base, other)) == pytest.approx(exact, abs=0.01)


def test_mcnemar_does_not_apply_to_graded_scores():
    assert s.mcnemar_p_value(one([[0.5, 0.0], [0.0, 1.0]]), 1, 0) is None
    assert s.mcnemar_p_value(one(np.zeros((5, 2))), 1, 0) == 1.0


def covered(over, under, truths, draws=600):
    """Share of intervals that cover their truth; (clusters, trials) arrays, one trial a column."""
    sums = s.ClusterSums(over[:, :, None], under[:, :, None])
    low, high = s.percentile_intervals(s.clustered_bootstrap(sums, 1, draws), len(over))
    return float(np.mean((low <= truths) & (truths <= high)))


def test_intervals_of_ratios_and_of_differences_hold_93_to_97_percent_of_2000_truths():
    """F1 of yes and no (a ratio of random sums), and one method minus another on the same pictures."""
    generator = np.random.default_rng(11)
    trials, clusters, each = 2000, 120, 3
    base, hit = generator.uniform(0.3, 0.7, trials), generator.uniform(0.5, 0.9, trials)
    yes = generator.random((clusters, each, trials)) < base
    answered_yes = generator.random((clusters, each, trials)) < np.where(yes, hit, 1 - hit)
    f1 = 2 * base * hit / (base + base * hit + (1 - base) * (1 - hit))
    over, under = 2 * (yes & answered_yes).sum(axis=1), yes.sum(axis=1) + answered_yes.sum(axis=1)
    assert 0.93 <= covered(over.astype(float), under.astype(float), f1) <= 0.97
    hard = generator.beta(2, 2, (clusters, trials))
    gain = generator.uniform(-0.2, 0.2, trials)
    rights = [generator.random((clusters, trials)) < 0.25 + 0.5 * hard + shift for shift in (0, gain)]
    gaps = rights[1].astype(float) - rights[0]
    assert 0.93 <= covered(gaps, np.ones_like(gaps), gain) <= 0.97


def test_false_wins_stay_under_5_percent_of_2000_tables_and_true_ones_are_found():
    """No method of a table is better than the base: how many tables nevertheless show a star?"""
    generator = np.random.default_rng(6)
    tables, columns, items = 2000, 6, 60
    base, other = generator.beta(1, 2, (2, items, tables * columns))
    pairs = [(2 * place + 1, 2 * place) for place in range(tables * columns)]
    both = np.stack([base, other], axis=2).reshape(items, -1)
    nulls = s.permutation_null(one(both), pairs, 3, 999)
    p = np.array(
        [s.permutation_p_value(gap, null) for gap, null in zip((other - base).mean(axis=0), nulls, strict=True)]
    ).reshape(tables, columns)
    stars = sum((s.holm_correction(row) < s.ALPHA).any() for row in p)
    assert 0.02 < stars / tables < 0.05
    assert 0.04 < float(np.mean(p < s.ALPHA)) < 0.055, "the single tests are exact, so they use up their 5 %"
    better = np.stack([base, other + 0.25], axis=2).reshape(items, -1)[:, :2000]
    nulls = s.permutation_null(one(better), pairs[:1000], 3, 399)
    gaps = (other - base).mean(axis=0)[:1000] + 0.25
    assert np.mean([s.permutation_p_value(gap, null) < s.ALPHA for gap, null in zip(gaps, nulls, strict=True)]) > 0.95


def test_a_p_value_below_the_number_of_swaps_is_never_too_small():
    """If no swap is as extreme as the difference, Hoeffding's bound is used; all 2^n swaps give the exact value."""
    signs = np.array(list(itertools.product((-1, 1), repeat=16)))
    for gaps in (np.ones(16), np.linspace(0.5, 1, 16), np.linspace(-0.05, 1, 16)):
        observed = float(gaps.mean())
        exact = float(np.mean(np.abs(signs @ gaps / 16) >= abs(observed) - 1e-12))
        drawn = null(np.zeros(16), gaps, 5, 199)
        assert exact <= s.permutation_p_value(observed, drawn) <= 1 / 200
    assert s.permutation_p_value(0.5, null(np.zeros(400), np.full(400, 0.5), 1, 199)) < 1e-30


def test_equal_answers_give_p_of_one():
    assert s.permutation_p_value(0.0, null(np.ones(30), np.ones(30))) == 1.0


def test_a_mean_of_ratios_leaves_out_ratios_of_nothing():
    over, under = np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 0.0]])
    assert s.mean_of_ratios(over, under)[0] == 0.5
    assert np.isnan(s.mean_of_ratios(over, under)[1])


def by_hand(p_values):
    order = np.argsort(p_values, kind="stable")
    corrected, running = np.empty(len(p_values)), 0.0
    for place, index in enumerate(order):
        running = max(running, (len(p_values) - place) * p_values[index])
        corrected[index] = min(running, 1.0)
    return corrected


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_the_step_down_rule(p_values):
    assert np.allclose(s.holm_correction(np.array(p_values)), by_hand(p_values))


def test_holm_known_values_and_gaps():
    corrected = s.holm_correction(np.array([0.01, np.nan, 0.04, 0.03]))
    assert corrected[[0, 2, 3]] == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(corrected[1])
    assert np.isnan(s.holm_correction(np.array([np.nan]))).all()


def test_smallest_difference_is_2_8_standard_errors():
    draws = np.random.default_rng(8).normal(0, 1, 20000)
    assert s.minimum_detectable_difference(draws) == pytest.approx(2.80, abs=0.05)


def test_flip_rate():
    assert s.flip_rate(np.array([1.0, 1.0, -1.0, 0.0]), 1.0) == 0.375
    assert s.flip_rate(np.array([1.0, -1.0]), 0.0) == 0.5
    assert np.isnan(s.flip_rate(np.array([1.0]), float("nan")))


def test_nothing_to_measure_gives_nan_not_a_crash():
    empty = s.ClusterSums.from_items(np.zeros((0, 2, 1)), np.zeros((0, 2, 1)), np.zeros(0, dtype=int))
    assert np.isnan(empty.scores()).all()
    assert np.isnan(s.clustered_bootstrap(empty, 1, 10)).all()
    assert np.isnan(s.percentile_interval(np.array([np.nan]), 5)).all()


@pytest.mark.parametrize(("undefined", "given"), [(0, True), (100, True), (101, False), (2000, False)])
def test_no_interval_where_more_than_5_percent_of_the_resamples_are_undefined(undefined, given):
    """What is left would be conditional on the number being defined: HARS has none without a gain."""
    draws = np.linspace(10, 20, 2000)
    draws[:undefined] = math.nan
    low, high = s.percentile_interval(draws, 500)
    assert (math.isfinite(low), math.isfinite(high)) == (given, given)
