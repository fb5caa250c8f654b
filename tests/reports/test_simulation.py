"""Whole reports of simulated runs with known true values: intervals cover them, and no false winner is named.

``test_statistics.py`` does the same for each formula alone; here the record, the clusters, the headlines and the
correction over the table are those of a real report.
"""

import numpy as np
import pytest

from reports.record import BenchmarkResult, CellResult, ItemResult, QuestionEntry, Run
from reports.statistics.analysis import analyse

ITEMS = 72
NAMES = ("mini-EVOKE", "mini-MME", "mini-POPE", "mini-ScienceQA")
KNOWN = {"F1": "mini-EVOKE", "MME": "mini-MME", "POPE": "mini-POPE", "ScienceQA": "mini-ScienceQA"}
"""The measures whose truth is written down; each row of a run draws its own."""
BETA = 3.0
"""How alike the questions about one picture are."""


def questions():
    """Two questions a picture in MME, three in POPE; EVOKE's items are independent."""
    each = {"mini-MME": 2, "mini-POPE": 3}
    return tuple(
        QuestionEntry(
            str(n), name, "?", "Yes", f"kind {n // each.get(name, 1) % 2}", "news" if name == "mini-EVOKE" else "",
            f"image {n // each[name]}" if name in each else "",
        )
        for name in NAMES
        for n in range(ITEMS)
    )  # fmt: skip


def cell(generator, method, chance):
    """One row's answers and, by measure, its scores for an infinite number of questions."""
    scores, truth = {}, {}
    right = generator.random(ITEMS) < chance["F1"]
    partly = np.where(right, 1.0, np.where(generator.random(ITEMS) < 0.5, 0.5, 0.0))
    values = [{"CEM": float(hit), "F1": float(part)} for hit, part in zip(right, partly, strict=True)]
    truth["F1"] = chance["F1"] + 0.25 * (1 - chance["F1"])
    scores["mini-EVOKE"] = result(values, 50 * (right.mean() + partly.mean()), CEM=right.mean(), F1=partly.mean())

    p = chance["MME"]
    right = generator.random((ITEMS // 2, 2)) < generator.beta(BETA * p, BETA * (1 - p), (ITEMS // 2, 1))
    both = right.all(axis=1)
    values = [
        {"acc": float(hit)} | ({"acc+": float(both[pair])} if first == 0 else {})
        for pair in range(ITEMS // 2)
        for first, hit in enumerate(right[pair])
    ]
    parts = [part[kind::2].mean() for part in (right, both) for kind in (0, 1)]
    truth["MME"] = (p + p * (BETA * p + 1) / (BETA + 1)) / 2
    scores["mini-MME"] = result(values, 100 * float(np.mean(parts)))

    p = chance["POPE"]
    yes = np.tile([1, 0, 1], ITEMS // 3)
    hit = generator.random((ITEMS // 3, 3)) < generator.beta(BETA * p, BETA * (1 - p), (ITEMS // 3, 1))
    answers = np.where(hit.ravel(), yes, 1 - yes)
    values = [{"is_yes": float(a), "said_yes": float(b)} for a, b in zip(yes, answers, strict=True)]
    truth["POPE"] = 2 * 2 * p / (2 + 2 * p + (1 - p))
    scores["mini-POPE"] = result(values, 100 * 2 * (yes & answers).sum() / (yes.sum() + answers.sum()))

    right = generator.random(ITEMS) < chance["ScienceQA"]
    truth["ScienceQA"] = chance["ScienceQA"]
    scores["mini-ScienceQA"] = result([{"acc": float(hit)} for hit in right], 100 * right.mean())
    return CellResult("m", method, method, 0, scores=scores), truth


def result(values, headline, **metrics):
    items = tuple(ItemResult(str(n), one) for n, one in enumerate(values))
    return BenchmarkResult(float(headline), {name: 100 * float(one) for name, one in metrics.items()}, items)


def run_of(seed, rows, spread):
    generator = np.random.default_rng(seed)
    even = dict.fromkeys(KNOWN, 0.5)
    made = [
        cell(generator, "vanilla" if row == 0 else f"method {row}",
             {name: generator.uniform(0.5 - spread, 0.5 + spread) for name in even})
        for row in range(rows)
    ]  # fmt: skip
    return Run("simulated", "", tuple(one for one, _ in made), questions()), [truth for _, truth in made]


def covered(runs, rows=5):
    """The number of true values, the share inside their intervals, and the share of true differences inside theirs."""
    hits, gaps = [], []
    for seed in range(runs):
        run, truths = run_of(seed, rows, 0.25)
        analysis = analyse(run)
        assert not analysis.recentred, "the headlines here are those that the report knows"
        for row, truth in enumerate(truths):
            for measure, value in truth.items():
                one = analysis.main.get((row, measure)) or analysis.benchmarks[row, measure]
                hits.append(one.low <= 100 * value <= one.high)
                if row:
                    gap = 100 * (value - truths[0][measure])
                    gaps.append(one.delta_low <= gap <= one.delta_high)
    return len(hits), float(np.mean(hits)), float(np.mean(gaps))


def false_wins(runs):
    """For each table the share of reports that show a star in it, although the method is as good as the base."""
    found = np.zeros(3)
    for seed in range(runs):
        analysis = analyse(run_of(10_000 + seed, 2, 0.0)[0])
        tables = (analysis.main, analysis.benchmarks, analysis.types)
        found += [any(one.significant for one in table.values()) for table in tables]
    return found / runs


@pytest.mark.slow
def test_a_report_holds_most_truths_and_names_few_false_winners():
    truths, share, gaps = covered(20)
    assert truths == 400
    assert 0.91 < share < 0.985
    assert 0.91 < gaps < 0.985
    assert (false_wins(40) < 0.2).all()


@pytest.mark.slow
def test_95_percent_intervals_of_whole_reports_hold_93_to_97_percent_of_2000_truths():
    truths, share, gaps = covered(100)
    assert truths == 2000
    assert 0.93 <= share <= 0.97
    assert 0.93 <= gaps <= 0.97


@pytest.mark.slow
def test_false_wins_stay_under_5_percent_of_2000_reports():
    wins = false_wins(2000)
    assert (wins < 0.05).all()
    assert (wins > 0).all(), "a test that never errs finds nothing"
