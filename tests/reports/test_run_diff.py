"""Changes between two runs are listed once, and noise is not reported as a change."""

from dataclasses import replace

import pytest

from helpers.fake_run import fake_run
from reports.record import Setting
from reports.tables.run_diff import diff_runs


@pytest.fixture(scope="module")
def run():
    return replace(fake_run(("Vanilla", "LoRA", "KORE"), (0,), per_benchmark=30), signature="base:a|torch:1")


def found(old, new):
    making, scores = diff_runs(old, new)
    return [record[:4] for record in making.records], {record[:2]: record for record in scores.records}


def changed(run, label, **fields):
    return replace(run, cells=tuple(replace(one, **fields) if one.label == label else one for one in run.cells))


def test_a_run_does_not_differ_from_itself(run):
    making, scores = found(run, run)
    assert making == []
    assert {record[-1] for record in scores.values()} == {"the same", "not tested"}
    assert {record[1] for record in scores.values() if record[-1] == "not tested"} == {"HARS (v2)"}
    assert {record[4] for record in scores.values()} == {"0.00"}


def test_a_method_that_got_better_is_significantly_higher(run):
    best, worst = run.cells[2], run.cells[1]
    better = changed(run, "LoRA", scores=worst.scores | {"mini-EVOKE": best.scores["mini-EVOKE"]})
    _, scores = found(run, better)
    assert scores["LoRA", "CEM"][-1] == "higher *"
    assert scores["LoRA", "CEM"][4].startswith("+")
    assert scores["LoRA", "MME"][-1] == "the same"
    assert scores["Vanilla", "CEM"][-1] == "the same"
    _, back = found(better, run)
    assert back["LoRA", "CEM"][-1] == "lower *"


def test_one_other_answer_is_no_significant_change(run):
    score = run.cells[1].scores["mini-MME"]
    flipped = replace(score.items[0], values={"score": 1 - score.items[0].values["score"]})
    moved = replace(score, items=(flipped, *score.items[1:]), headline=score.headline + 100 / 30)
    _, scores = found(run, changed(run, "LoRA", scores=run.cells[1].scores | {"mini-MME": moved}))
    assert scores["LoRA", "MME"][-1] == "no significant change"


def test_settings_seeds_rows_and_versions_are_listed(run):
    lora = run.cells[1]
    new = changed(run, "LoRA", settings=dict(lora.settings) | {"rank": Setting(8, "--set")}, seed=4)
    new = replace(new, cells=new.cells[:2], signature="base:a|torch:2")
    making, scores = found(run, new)
    assert ("the run", "torch", "1", "2") in making
    assert ("LoRA", "rank", "32", "8") in making
    assert ("LoRA", "seeds", "0", "4") in making
    assert ("KORE", "the row", "is there", "–") in making
    assert not any(label == "KORE" for label, _ in scores)


def test_other_questions_are_listed_and_not_tested(run):
    asked = tuple(replace(q, text="Another?") if q.benchmark == "mini-MME" else q for q in run.questions)
    making, scores = found(run, replace(run, questions=asked))
    assert [(where, what) for where, what, *_ in making] == [("mini-MME", "its questions")]
    assert scores["LoRA", "MME"][-1] == "not tested: other questions"
    assert scores["LoRA", "POPE"][-1] == "the same"
    assert scores["LoRA", "COM"][-1] == "not tested: other questions"


def test_a_missing_benchmark_and_a_failed_cell_are_listed(run):
    less = {name: score for name, score in run.cells[1].scores.items() if name != "mini-POPE"}
    making, scores = found(run, changed(changed(run, "LoRA", scores=less), "KORE", status="oom", scores={}))
    assert ("KORE", "seed 0 ended", "ok", "oom") in making
    assert scores["LoRA", "POPE"][-1] == "in one run only"
    assert scores["KORE", "CEM"][-1] == "in one run only"
