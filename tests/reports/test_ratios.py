"""Each benchmark's headline is rebuilt from its items, by the rule that the benchmark itself uses."""

import numpy as np
import pytest

from reports.statistics.ratios import headline_ratios, item_score, metric_ratio
from reports.statistics.resampling import mean_of_ratios


def rebuilt(benchmark, items, types=None, headline=float("nan")):
    over, under = headline_ratios(benchmark, items, types or [""] * len(items), headline)
    return 100 * float(mean_of_ratios(over.sum(axis=0), under.sum(axis=0)))


def test_accuracy_is_a_mean():
    assert rebuilt("ScienceQA", [{"acc": 1.0}, {"acc": 0.0}, {"acc": 1.0}, {"acc": 1.0}]) == 75


def test_mme_is_the_mean_over_categories_of_acc_and_acc_plus():
    items = [
        {"acc": 1.0, "acc+": 0.0},
        {"acc": 0.0},
        {"acc": 1.0, "acc+": 1.0},
        {"acc": 1.0},
        {"acc": 1.0, "acc+": 0.0},
        {"acc": 0.0},
    ]
    types = ["OCR", "OCR", "color", "color", "color", "color"]
    # OCR: acc 50, acc+ 0. color: acc 75, acc+ 50. VLMEvalKit: (50 + 0 + 75 + 50) / (200 * 2) * 100
    assert rebuilt("mini-MME", items, types) == pytest.approx((50 + 0 + 75 + 50) / 400 * 100)


def test_pope_is_f1_of_yes():
    items = [
        {"acc": 1.0, "is_yes": 1.0, "said_yes": 1.0},
        {"acc": 0.0, "is_yes": 1.0, "said_yes": 0.0},
        {"acc": 0.0, "is_yes": 0.0, "said_yes": 1.0},
        {"acc": 1.0, "is_yes": 0.0, "said_yes": 0.0},
        {"acc": 1.0, "is_yes": 1.0, "said_yes": 1.0},
    ]
    precision, recall = 2 / 3, 2 / 3
    assert rebuilt("mini-POPE", items) == pytest.approx(100 * 2 * precision * recall / (precision + recall))


def test_hallusionbench_is_the_mean_of_its_three():
    items = [{"aAcc": 1.0, "fAcc": 0.0, "qAcc": 1.0}, {"aAcc": 0.0}, {"aAcc": 1.0, "fAcc": 1.0}, {"aAcc": 1.0}]
    assert rebuilt("HallusionBench", items) == pytest.approx(100 * (0.75 + 0.5 + 1.0) / 3)


def test_the_metric_of_mmbench_is_chosen_by_its_headline():
    items = [{"acc": 1.0}, {"circular": 0.0, "acc": 0.0}, {"circular": 1.0, "acc": 1.0}]
    assert rebuilt("mini-MMBench", items, headline=50.0) == 50
    assert rebuilt("mini-MMBench", items, headline=200 / 3) == pytest.approx(200 / 3)


def test_evoke_is_the_mean_of_cem_and_f1():
    items = [{"CEM": 1.0, "F1": 0.5, "CEM_safe": 0.0}, {"CEM": 0.0, "F1": 0.0, "CEM_safe": 0.0}]
    assert rebuilt("mini-EVOKE", items) == 37.5
    over, under = metric_ratio(items, "CEM")
    assert over.sum() / under.sum() == 0.5


def test_weights_count_and_unread_items_do_not():
    assert rebuilt("other", [{"score": 1.0, "weight": 3.0}, {"score": 0.0}]) == 75
    assert rebuilt("MIA-Bench", [{"total_score": 0.5}, {}], headline=50.0) == 50
    assert np.isnan(rebuilt("MIA-Bench", [{}, {}]))


def test_item_scores():
    assert item_score({"CEM": 1.0, "F1": 0.5, "CEM_safe": 0.0}) == 0.75
    assert item_score({"circular": 0.0, "acc": 1.0}) == 1.0
    assert item_score({"strange": 0.3}) == 0.3
    assert np.isnan(item_score({}))
