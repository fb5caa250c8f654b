"""Retention at matched adaptation: oracles of the interpolation, coverage of its interval, and the table of a run."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.fake_run import cell, fake_run, questions
from reports.formats import markdown
from reports.record import Run
from reports.statistics.analysis import analyse
from reports.statistics.matched_curves import RetentionCurve, compare_curves, retention_at, seed_weights
from reports.tables.matched import compare_all, matched_table, sweep_curves
from reports.text import format_number

SCORES = st.floats(0, 100, allow_nan=False)
POINTS = st.lists(st.tuples(SCORES, SCORES), min_size=2, max_size=6)


def at(points, level: float) -> float:
    x, y = np.array(points, dtype=float).T
    return float(retention_at(x[:, None], y[:, None], level)[0])


@pytest.mark.parametrize(
    ("points", "level", "wanted"),
    [
        ([(10, 60), (20, 50)], 15, 55.0),
        ([(10, 60), (20, 50), (40, 10)], 30, 30.0),
        ([(10, 60), (20, 50)], 10, 60.0),
        ([(10, 60), (20, 50)], 9.99, math.nan),
        ([(10, 60), (20, 50)], 20.01, math.nan),
        ([(10, 60), (30, 40), (15, 5)], 20, 50.0),  # unlearns again: the better of the two passages
        ([(20, 60), (20, 50)], 20, 60.0),  # no wider than a point
        ([(20, 60), (20, 50)], 21, math.nan),
        ([(30, 10), (10, 70)], 20, 40.0),
    ],
)
def test_oracles_of_the_interpolation(points, level, wanted):
    assert at(points, level) == pytest.approx(wanted, nan_ok=True)


@given(POINTS, SCORES)
def test_it_lies_between_the_points_and_is_never_extrapolated(points, level):
    found, (x, y) = at(points, level), zip(*points, strict=True)
    if math.isnan(found):
        assert not min(x) <= level <= max(x)
    else:
        assert min(x) <= level <= max(x)
        assert min(y) - 1e-9 <= found <= max(y) + 1e-9


@given(POINTS, st.floats(0, 1), SCORES, st.integers(0, 4))
def test_a_point_on_the_line_between_two_changes_nothing(points, share, level, place):
    place = place % (len(points) - 1)
    (x0, y0), (x1, y1) = points[place : place + 2]
    if abs(x1 - x0) < 1e-3:
        return
    between = (x0 + share * (x1 - x0), y0 + share * (y1 - y0))
    more = [*points[: place + 1], between, *points[place + 1 :]]
    if abs(between[0] - level) > 1e-6:  # where it lies on the level itself, rounding decides on which side
        assert at(more, level) == pytest.approx(at(points, level), abs=1e-4, nan_ok=True)


def test_weights_of_seeds_are_centred_and_as_wide_as_a_mean_of_so_few():
    assert np.array_equal(seed_weights(1, 4), np.ones((4, 1)))
    scores = np.array([3.0, 5.0, 10.0])
    means = seed_weights(3, 40_000) @ scores
    assert means.mean() == pytest.approx(scores.mean(), abs=0.03)
    assert means.std() == pytest.approx(scores.std(ddof=1) / math.sqrt(3), rel=0.02)


def trace(adaptation, retention, seeds=(0,), draws=50, clusters=300) -> RetentionCurve:
    """Points without noise."""
    both = [np.repeat(np.array(one, dtype=float)[:, :, None], draws + 1, axis=2) for one in (adaptation, retention)]
    return RetentionCurve(both[0], both[1], seeds, clusters)


def test_two_curves_are_compared_in_the_middle_of_what_both_reach():
    one, other = trace([[0], [10]], [[60], [50]]), trace([[4], [20]], [[40], [24]])
    found = compare_curves(one, other)
    assert (found.low, found.high, found.level) == (4, 10, 7)
    assert found.retention == pytest.approx((53, 37))
    assert found.difference == pytest.approx(16)
    assert found.interval == pytest.approx((16, 16))
    assert found.p == 0
    turned = compare_curves(other, one)
    assert (turned.difference, turned.level) == (-found.difference, found.level)
    assert compare_curves(one, one).p == 1


def test_curves_that_cannot_be_compared_give_the_reason():
    one = trace([[0], [10]], [[60], [50]])
    apart = compare_curves(one, trace([[11], [20]], [[60], [50]]))
    assert math.isnan(apart.difference)
    assert "no adaptation is reached by both: 0.00 to 10.00, and 11.00 to 20.00" in apart.reason
    assert "same seeds" in compare_curves(one, trace([[0], [10]], [[60], [50]], seeds=(1,))).reason
    narrow = trace([[9.9], [20]], [[60], [50]])
    noisy = dataclasses.replace(narrow, adaptation=narrow.adaptation + np.r_[0, np.resize([1, -1], 50)])
    missed = compare_curves(one, noisy)
    assert "50 % of the resamples" in missed.reason
    assert math.isfinite(missed.difference)
    assert math.isnan(missed.interval[0])


def simulated(generator, seeds: int, gap: float, *, asked=150, draws=150) -> tuple[RetentionCurve, RetentionCurve]:
    """Two methods on one line of retention over adaptation, ``gap`` apart; questions and seeds both are noisy."""
    skill, spread = np.array([0.2, 0.35, 0.5]), 0.02
    hard = generator.normal(0, 0.3, (2, asked))
    picks = generator.multinomial(asked, np.full(asked, 1 / asked), size=(2, draws)) / asked
    found = []
    for bonus in (gap / 100, 0.0):
        moved = generator.normal(0, spread, (2, 3, seeds))
        levels = np.stack([skill[:, None] + moved[0], 0.9 - skill[:, None] + bonus + moved[1]])
        right = generator.random((2, 3, seeds, asked)) < 1 / (
            1 + np.exp(-(_logit(levels)[..., None] + hard[:, None, None]))
        )
        own = right.mean(axis=-1, keepdims=True)
        resampled = np.einsum("mksq,mdq->mksd", right.astype(float), picks)
        scores = 100 * np.concatenate([own, resampled], axis=-1)
        found.append(RetentionCurve(scores[0], scores[1], tuple(range(seeds)), asked))
    return found[0], found[1]


def _logit(p):
    return np.log(p / (1 - p))


@pytest.mark.parametrize(("seeds", "gap"), [(1, 0.0), (3, 0.0), (5, 12.0)])
def test_intervals_cover_the_true_difference(seeds, gap):
    """Over many simulated studies; with one seed the noise of training is not in the data and cannot be covered."""
    generator = np.random.default_rng(1)
    found = [compare_curves(*simulated(generator, seeds, gap)) for _ in range(200)]
    known = [one for one in found if not one.reason]
    assert len(known) > 190
    truth = np.mean([one.difference for one in known])
    assert truth == pytest.approx(0.96 * gap, abs=1.2)  # a mean over questions of a logistic curve is a little flatter
    covered = np.mean([one.interval[0] <= truth <= one.interval[1] for one in known])
    detected = np.mean([one.p < 0.05 for one in known])
    assert 0.8 < covered < 0.93 if seeds == 1 else 0.91 < covered < 0.985
    assert detected > 0.8 if gap else detected < (0.2 if seeds == 1 else 0.09)


SKILLS = {"lora": ((0.15, 0.95), (0.3, 0.75), (0.45, 0.5)), "kore": ((0.2, 0.95), (0.35, 0.9), (0.5, 0.8))}


def swept(skills=SKILLS, seeds=(0, 1)) -> Run:
    """Two methods at three learning rates each: kore keeps more at the same adaptation."""
    asked = questions(40)
    cells = [cell("Vanilla", asked, 0)]
    for method, points in skills.items():
        for rate, (skill, kept) in zip((1e-3, 3e-3, 1e-2), points, strict=True):
            for seed in seeds:
                made = cell(f"{method} (learning_rate {rate:g})", asked, seed, (method, "", skill, kept))
                crossed = {"crossed": {"learning_rate": rate}, "swept": "learning_rate", "curve": method}
                cells.append(dataclasses.replace(made, **crossed))
    return Run("sweep", cells=tuple(cells), questions=tuple(asked))


@pytest.fixture(scope="module")
def sweep(few_draws):
    return analyse(swept())


def test_points_of_a_sweep_have_a_row_each_and_form_a_curve(sweep):
    found = sweep_curves(sweep)
    assert [(curve.label, curve.setting, curve.values) for curve in found] == [
        (method, "learning_rate", (1e-3, 3e-3, 1e-2)) for method in SKILLS
    ]
    labels = [sweep.rows[number].label for curve in found for number in curve.rows]
    assert labels == [f"{method} (learning_rate {rate:g})" for method in SKILLS for rate in (1e-3, 3e-3, 1e-2)]


def test_the_numbers_are_those_of_the_main_table(sweep):
    (found,) = compare_all(sweep, sweep_curves(sweep)).values()
    points = [
        [(sweep.main[row, "K.A"].value, sweep.main[row, "K.R (v1)"].value) for row in c.rows]
        for c in sweep_curves(sweep)
    ]
    assert found.retention == pytest.approx([at(own, found.level) for own in points])
    assert found.low == pytest.approx(max(min(x for x, _ in own) for own in points))
    assert found.difference < 0
    assert found.interval[0] < found.difference < found.interval[1] < 0
    assert found.p < 0.05


def test_the_table(sweep):
    table = matched_table(sweep)
    (line,) = table.lines
    (found,) = compare_all(sweep, sweep_curves(sweep)).values()
    assert line.label == "lora, kore"
    assert line.cells["difference"].value == found.difference
    text = markdown.render(table)
    assert format_number(found.difference) in text
    assert "never extrapolated" in text
    assert line.cells["difference"].significant


def test_the_table_gives_the_reason_if_two_are_not_compared(few_draws):
    apart = {"lora": ((0.1, 0.9), (0.12, 0.9), (0.14, 0.9)), "kore": ((0.6, 0.5), (0.65, 0.5), (0.7, 0.5))}
    (line,) = matched_table(analyse(swept(apart, seeds=(0,)))).lines
    assert "no adaptation is reached by both" in line.state
    assert line.cells == {}


def test_a_run_without_a_sweep_has_no_such_table(few_draws):
    analysis = analyse(fake_run(("Vanilla", "LoRA", "KORE"), (0,), 10))
    assert sweep_curves(analysis) == ()
    assert matched_table(analysis) is None
