"""Numbers follow from the items; marks exclude rows from rankings; rows on other questions are not compared."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import aggregate
from helpers.fake_run import METHODS, cell, fake_run, questions
from reports.record import BenchmarkResult, ItemResult, QuestionEntry, Run
from reports.statistics import summary
from reports.statistics.analysis import analyse
from reports.statistics.rows import build_rows
from reports.statistics.samples import HEADLINE, paired_blocks, resample
from reports.tables.tables import make_tables


def numbered(analysis):
    return {row.label: number for number, row in enumerate(analysis.rows)}


def changed(run, label, **fields):
    return replace(run, cells=tuple(replace(one, **fields) if one.label == label else one for one in run.cells))


def test_vanilla_is_always_the_first_row():
    run = fake_run(labels=("LoRA", "Vanilla"), seeds=(0,), per_benchmark=4)
    assert [row.label for row in analyse(run).rows] == ["Vanilla", "LoRA"]


def test_summaries_follow_from_the_cells(run, analysis):
    row = numbered(analysis)["KORE"]
    cells = [one for one in run.cells if one.label == "KORE"]
    adapted = np.mean([np.mean([one.scores["mini-EVOKE"].metrics[m] for m in ("CEM", "F1")]) for one in cells])
    scores = {n: float(np.mean([one.scores[f"mini-{n}"].headline for one in cells])) for n in aggregate.TWELVE}
    whole = aggregate.summarize(float(adapted), scores)
    got = {
        key: analysis.main[row, key].value for key in (summary.KA, summary.KR1, summary.AVG1, summary.KR2, summary.AVG2)
    }
    assert got == pytest.approx(
        dict(
            zip(
                got,
                (whole.adaptation, whole.retention_v1, whole.average_v1, whole.retention_v2, whole.average_v2),
                strict=True,
            )
        )
    )
    assert analysis.main[row, "HAL"].value == pytest.approx(whole.dimensions["HAL"])
    base = numbered(analysis)["Vanilla"]
    expected = aggregate.hars(
        whole.adaptation,
        whole.retention_v2,
        analysis.main[base, summary.KA].value,
        analysis.main[base, summary.KR2].value,
    )
    assert analysis.main[row, summary.HARS].value == pytest.approx(expected)


def test_every_interval_holds_its_value(analysis):
    for table in (analysis.main, analysis.benchmarks, analysis.types):
        for one in table.values():
            assert one.low - 1e-9 <= one.value <= one.high + 1e-9
            assert one.low < one.high


def test_questions_are_counted_once(analysis):
    assert {one.n for (_, key), one in analysis.main.items() if key == summary.KA} == {290}
    assert {one.n for (_, key), one in analysis.main.items() if key == summary.AVG1} == {290 + 12 * 24}


def test_a_method_equal_to_the_base_differs_by_nothing():
    run = fake_run(labels=("Vanilla",), per_benchmark=20)
    twin = replace(run.cells[0], method="lora", label="LoRA")
    found = analyse(replace(run, cells=(*run.cells, twin)))
    for (row, _), one in found.main.items():
        if row == 1:
            assert (one.delta, one.p) == (0.0, 1.0)
    other = analyse(fake_run(labels=("Vanilla", "LoRA"), seeds=(0,), per_benchmark=20))
    assert other.main[1, summary.KA].significant


def test_swapping_two_rows_flips_the_sign():
    run = fake_run(labels=("Vanilla", "LoRA"), seeds=(0,), per_benchmark=20)
    one, two = run.cells
    swapped = replace(run, cells=(replace(one, scores=two.scores), replace(two, scores=one.scores)))
    before, after = analyse(run), analyse(swapped)
    for key in (summary.CEM, "HAL", summary.AVG1):
        assert after.main[1, key].delta == pytest.approx(-before.main[1, key].delta)
        assert after.main[1, key].p == pytest.approx(before.main[1, key].p, abs=0.02)


def test_best_and_second_are_ranked_and_the_base_is_not(analysis):
    base = numbered(analysis)["Vanilla"]
    for measure in (summary.KA, "HAL", summary.AVG1):
        values = {n: analysis.main[n, measure].value for n in range(len(analysis.rows)) if n != base}
        ranked = {n: one.rank for (n, key), one in analysis.main.items() if key == measure}
        assert ranked[max(values, key=values.get)] == 1
        assert ranked[base] == 0


@pytest.mark.parametrize("mark", ["limited", "transductive", "unjudged"])
def test_marked_rows_are_never_ranked(mark):
    """Invariant I5."""
    run = fake_run(labels=("Vanilla", "LoRA", "Replay", "KORE"), seeds=(0,), per_benchmark=8)
    best = numbered(analyse(run))["KORE"]
    assert analyse(run).main[best, summary.KA].rank == 1
    found = analyse(changed(run, "KORE", marks=(mark,)))
    assert {one.rank for (row, _), one in found.main.items() if row == best} == {0}
    assert best not in {row for pair in found.pairs for row in (pair.first, pair.second)}
    assert found.main[numbered(found)["LoRA"], summary.KA].rank == 1


def test_a_mark_on_one_benchmark_unranks_what_is_made_of_it():
    """Invariant I5, for a part."""
    run = fake_run(labels=("Vanilla", "LoRA", "KORE"), seeds=(0,), per_benchmark=8)
    cells = []
    for one in run.cells:
        scores = dict(one.scores)
        scores["mini-MMDU"] = replace(scores["mini-MMDU"], marks=("unjudged",))
        cells.append(replace(one, scores=scores))
    found = analyse(replace(run, cells=tuple(cells)))
    ranks = {
        key: {one.rank for (_, measure), one in found.main.items() if measure == key}
        for key in ("M-IDU", summary.KR1, "HAL")
    }
    assert ranks == {"M-IDU": {0}, summary.KR1: {0}, "HAL": {0, 1, 2}}


def test_no_headline_leaves_out_every_summary_that_needs_it():
    run = fake_run(labels=("Vanilla", "KORE"), seeds=(0,), per_benchmark=8)
    cells = [
        replace(one, scores=one.scores | {"mini-MMDU": replace(one.scores["mini-MMDU"], headline=None, metrics={})})
        for one in run.cells
    ]
    found = analyse(replace(run, cells=tuple(cells)))
    missing = {measure.key for measure in summary.MAIN} - {key for _, key in found.main}
    assert missing == {"M-IDU", summary.KR1, summary.AVG1, summary.KR2, summary.AVG2, summary.HARS}


def test_a_summary_of_parts_at_their_limit_has_an_exact_interval():
    """Resamples of answers that are all wrong have no width; K.A has the width of CEM and F1, which ask the same."""
    run = fake_run(labels=("Vanilla", "KORE"), seeds=(0,), per_benchmark=40)

    def collapsed(cell, name):
        score = cell.scores[name]
        items = tuple(replace(item, values=dict.fromkeys(item.values, 0.0)) for item in score.items)
        return replace(score, items=items, headline=0.0, metrics=dict.fromkeys(score.metrics, 0.0))

    names = ("mini-EVOKE", "mini-MIA-Bench")
    cells = [run.cells[0], *(replace(c, scores=c.scores | {n: collapsed(c, n) for n in names}) for c in run.cells[1:])]
    found = analyse(replace(run, cells=tuple(cells)))
    row = numbered(found)["KORE"]
    shown = {name: found.main[row, name] for name in (summary.CEM, summary.F1, summary.KA, "INS")}
    assert {estimate.value for estimate in shown.values()} == {0.0}
    assert {estimate.low for estimate in shown.values()} == {0.0}
    assert shown[summary.KA].high == pytest.approx(shown[summary.CEM].high)
    assert shown[summary.KA].high > 1
    assert shown["INS"].high > 1


def test_a_failed_seed_is_shown_and_unranks_its_row():
    run = fake_run(labels=("Vanilla", "LoRA", "KORE"), seeds=(0, 1), per_benchmark=8)
    cells = tuple(
        replace(one, status="diverged", reason="loss is NaN at step 7", scores={})
        if (one.label, one.seed) == ("KORE", 1)
        else one
        for one in run.cells
    )
    found = analyse(replace(run, cells=cells))
    row = numbered(found)["KORE"]
    assert found.main[row, summary.KA].rank == 0
    assert "1 of 2 seeds" in found.rows[row].status
    assert "step 7" in found.rows[row].status


def test_other_questions_are_never_paired():
    run = fake_run(labels=("Vanilla", "LoRA"), seeds=(0,), per_benchmark=8)
    lora = run.cells[1]
    pope = lora.scores["mini-POPE"]
    fewer = replace(lora, scores=lora.scores | {"mini-POPE": replace(pope, items=pope.items[:5])})
    found = analyse(replace(run, cells=(run.cells[0], fewer)))
    assert math.isnan(found.benchmarks[1, "POPE"].p)
    assert math.isnan(found.main[1, summary.KR1].delta)
    assert found.benchmarks[1, "MME"].p <= 1


def test_a_headline_that_is_not_a_mean_has_its_interval_around_it():
    run = fake_run(labels=("Vanilla",), per_benchmark=30)
    one = run.cells[0]
    moved = replace(one, scores=one.scores | {"mini-MME": replace(one.scores["mini-MME"], headline=20.0)})
    found = analyse(replace(run, cells=(moved,)))
    assert found.recentred == ("MME",)
    assert found.benchmarks[0, "MME"].low < 20 < found.benchmarks[0, "MME"].high


def answers_of(rates):
    """One cell of POPE for each seed, whose answers are right at that rate; POPE's F1 is a ratio of sums."""
    draw = random.Random(1)
    entries = tuple(QuestionEntry(str(number), "mini-POPE", "?", "yes") for number in range(300))
    cells = []
    for seed, rate in enumerate(rates):
        said = [float(number % 2 if draw.random() < rate else 1 - number % 2) for number in range(300)]
        items = tuple(
            ItemResult(entry.id, {"is_yes": float(number % 2), "said_yes": said[number]})
            for number, entry in enumerate(entries)
        )
        hits = sum(said[1::2])
        headline = 100 * 2 * hits / (150 + sum(said))
        score = BenchmarkResult(headline=headline, metrics={}, items=items)
        cells.append(replace(cell("LoRA", questions(8), seed), scores={"mini-POPE": score}))
    return Run("x", cells=tuple(cells), questions=entries)


def test_a_ratio_of_several_seeds_is_the_mean_of_theirs():
    """It is a mean over items in each seed, so nothing is moved, though the ratio of all seeds' sums is another."""
    run = answers_of((0.90, 0.94, 0.88))
    headlines = [one.scores["mini-POPE"].headline for one in run.cells]
    found = analyse(run)
    estimate = found.benchmarks[0, "POPE"]
    assert estimate.value == pytest.approx(np.mean(headlines))
    assert found.recentred == ()
    (block,) = paired_blocks(run, found.rows, "mini-POPE")
    metric = block.metric_array("mini-POPE", HEADLINE)
    (samples, _), *_ = resample([metric], "POPE")
    assert np.mean(samples[0].draws) == pytest.approx(np.mean(headlines), abs=0.1)


def test_weights_and_clusters_are_used():
    entries = questions(40)
    one = cell("Vanilla", entries, 0)
    alone = analyse(Run("x", cells=(one,), questions=tuple(replace(q, cluster="") for q in entries)))
    shared = analyse(Run("x", cells=(one,), questions=tuple(replace(q, cluster=str(int(q.id) // 8)) for q in entries)))
    width = [f.benchmarks[0, "MMMU"].high - f.benchmarks[0, "MMMU"].low for f in (alone, shared)]
    assert width[0] != width[1]
    first = one.scores["mini-MMMU"].items[0]
    heavy = replace(first, values={"score": 1.0, "weight": 1e6})
    items = (heavy, *one.scores["mini-MMMU"].items[1:])
    result = replace(one.scores["mini-MMMU"], items=items, headline=100.0)
    weighted = analyse(Run("x", cells=(replace(one, scores={"mini-MMMU": result}),), questions=tuple(entries)))
    assert weighted.recentred == ()


def test_seeds_are_averaged_and_their_spread_kept(run, analysis):
    row = numbered(analysis)["LoRA"]
    one = analysis.main[row, summary.CEM]
    seeds = [c.scores["mini-EVOKE"].metrics["CEM"] for c in run.cells if c.label == "LoRA"]
    assert one.seeds == pytest.approx(tuple(seeds))
    assert one.seed_sd == pytest.approx(np.std(seeds, ddof=1))
    assert math.isnan(analysis.main[0, summary.CEM].seed_sd)


def with_references(run, numeric):
    entries = [
        replace(one, reference=numeric.get(one.id, "words alone")) if one.benchmark == "mini-EVOKE" else one
        for one in run.questions
    ]
    return replace(run, questions=tuple(entries))


def test_answers_that_are_numbers_stand_beside_those_that_are_words():
    run = fake_run(("Vanilla", "LoRA"), (0,), 24)
    control = analyse(with_references(run, {}))
    assert not any(part.by_answer for part in control.slices), "without numbers there is nothing to split"
    numeric = {"1": "1975", "4": "3.0 million", "6": "8th"}
    split = analyse(with_references(run, numeric))
    sizes = {part.type: part.n for part in split.slices if part.by_answer}
    whole = sum(part.n for part in control.slices if not part.type)
    assert sizes == {"the answer is a number": 3, "the answer is words": whole - 3}
    items = next(one for one in run.cells if one.label == "LoRA").scores["mini-EVOKE"].items
    expected = 100 * np.mean([item.values["CEM"] for item in items if item.question_id in numeric])
    assert split.types[1, "answer:number/CEM"].value == pytest.approx(expected)
    labels = [line.label for table in make_tables(split) if table.key == "types" for line in table.lines]
    assert "the answer is a number (n = 3)" in labels


def test_types_are_the_items_of_that_type(run, analysis):
    result = run.cells[0].scores["mini-EVOKE"]
    animals = {q.id for q in run.questions if q.type == "animal"}
    expected = 100 * np.mean([item.values["CEM"] for item in result.items if item.question_id in animals])
    assert analysis.types[0, "entity/animal/CEM"].value == pytest.approx(expected)
    assert sum(part.n for part in analysis.slices if part.type and not part.by_answer) == 290


def test_equal_runs_give_equal_numbers(run, analysis):
    assert analyse(run) == analysis or repr(analyse(run)) == repr(analysis)


def test_equal_labels_are_made_unique():
    run = fake_run(labels=("Vanilla", "KORE", "KORE (no constraint)"), seeds=(0,), per_benchmark=2)
    rows = analyse(replace(run, cells=tuple(replace(one, label="Same") for one in run.cells))).rows
    assert len({row.label for row in rows}) == len(rows) == 3
    assert len(METHODS) == 5


def test_labels_include_the_training_data_only_if_they_are_equal_otherwise():
    run = fake_run(labels=("Vanilla", "LoRA", "KORE"), seeds=(0,), per_benchmark=2)
    base, lora, kore = run.cells
    kore = replace(kore, data="kore")
    rows = build_rows(replace(run, cells=(base, lora, kore)))
    assert [row.label for row in rows] == ["Vanilla", "LoRA", "KORE"]
    found = analyse(replace(run, cells=(base, lora, kore)))
    assert (
        "Rows differ in their training data too: “mini-EVOKE” for LoRA; “kore” for KORE." in make_tables(found)[0].notes
    )
    rows = build_rows(replace(run, cells=(base, lora, replace(lora, data="kore"), kore)))
    assert [row.label for row in rows] == ["Vanilla", "LoRA · mini-EVOKE", "LoRA · kore", "KORE"]
