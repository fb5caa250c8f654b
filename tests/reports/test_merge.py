"""Runs are merged only if their numbers can share a table; otherwise the error gives the reason."""

from dataclasses import replace

import pytest

from benchmarks.errors import UserError
from helpers.fake_run import fake_run
from reports.merge import merge
from reports.record import Setting
from reports.statistics.analysis import analyse

SIGNATURE = "preset:mini|base:aaa|precision:float32|decoding:greedy, batch 32|python:3.11"


def part(*labels, seeds=(0,)):
    return replace(fake_run(("Vanilla", *labels), seeds, per_benchmark=6), signature=SIGNATURE, title=" ".join(labels))


def changed(run, label, **fields):
    return replace(run, cells=tuple(replace(one, **fields) if one.label == label else one for one in run.cells))


@pytest.fixture(scope="module")
def one():
    return part("LoRA")


@pytest.fixture(scope="module")
def other():
    return part("KORE")


def test_the_title_names_a_few_runs_and_counts_the_rows_of_many(one, other):
    assert merge([("a", one), ("b", other)]).title == "LoRA + KORE"
    long = [(name, replace(run, title=f"{name} {'of a long name' * 5}")) for name, run in (("a", one), ("b", other))]
    assert merge([*long, ("c", one)]).title == "2 rows from 3 runs"


def test_rows_that_another_engine_answered_are_merged_with_the_others(one, other):
    """They are marked, as in one run of both kinds."""
    served = [
        replace(
            cell, scores={name: replace(each, signature=f"{each.signature}|engine vllm 9|n 6") for name, each in scores}
        )
        for cell in other.cells
        for scores in [cell.scores.items()]
        if cell.label == "KORE"
    ]
    built_in = [
        replace(cell, scores={name: replace(each, signature=f"{each.signature}|n 6") for name, each in scores})
        for cell in one.cells
        for scores in [cell.scores.items()]
    ]
    runs = [("a", replace(one, cells=tuple(built_in))), ("b", replace(other, cells=tuple(served)))]
    assert [cell.label for cell in merge(runs).cells] == ["Vanilla", "LoRA", "KORE"]


def test_two_runs_are_as_one(one, other):
    whole = merge([("a", one), ("b", other)])
    assert [cell.label for cell in whole.cells] == ["Vanilla", "LoRA", "KORE"]
    together = analyse(part("LoRA", "KORE"))
    assert repr(analyse(whole).main) == repr(together.main)
    assert "Merged from 2 runs: a and b." in whole.notes
    assert whole.signature == SIGNATURE


def test_seeds_of_one_row_are_merged_into_one_row():
    first, more = part("LoRA", seeds=(0,)), part("LoRA", seeds=(1, 2))
    whole = merge([("a", first), ("b", replace(more, cells=(first.cells[0], *more.cells[1:])))])
    rows = analyse(whole).rows
    assert [len(row.cells) for row in rows] == [1, 3]


def test_benchmarks_of_one_cell_are_merged(one):
    half = [
        {name: score for name, score in one.cells[1].scores.items() if ("M" in name) == side} for side in (True, False)
    ]
    runs = [changed(one, "LoRA", scores=scores) for scores in half]
    assert merge([("a", runs[0]), ("b", runs[1])]).cells[1].scores.keys() == one.cells[1].scores.keys()


def test_one_run_stays_as_it_is(one):
    assert merge([("a", one)]) is one


def test_merging_again_changes_nothing(one):
    whole = merge([("a", one), ("b", one)])
    assert (whole.cells, whole.questions) == (one.cells, one.questions)


def other_base(run):
    return replace(run, signature=SIGNATURE.replace("aaa", "bbb"))


def other_decoding(run):
    return replace(run, signature=SIGNATURE.replace("batch 32", "batch 8"))


def limited(run):
    return replace(run, signature=SIGNATURE + "|limit:3")


def other_question(run):
    return replace(run, questions=(replace(run.questions[0], text="Another?"), *run.questions[1:]))


def other_scorer(run):
    cell = run.cells[1]
    scores = cell.scores | {"mini-MME": replace(cell.scores["mini-MME"], signature="another judge")}
    return changed(run, cell.label, scores=scores)


def other_answers(run):
    base, score = run.cells[0], run.cells[0].scores["mini-POPE"]
    items = (replace(score.items[0], answer="Perhaps"), *score.items[1:])
    return changed(run, "Vanilla", scores=base.scores | {"mini-POPE": replace(score, items=items)})


def other_settings(run):
    lora = fake_run(("LoRA",), (1,), per_benchmark=6).cells[0]
    settings = dict(lora.settings) | {"rank": Setting(8, "--set")}
    return replace(run, cells=(*run.cells, replace(lora, settings=settings)))


def other_stages(run):
    return replace(run, signature=SIGNATURE + "|stages:3")


@pytest.mark.parametrize(
    ("bend", "says"),
    [
        (other_base, "different weights .base is aaa in first, bbb in second"),
        (other_decoding, "decoded differently"),
        (limited, "limited differently"),
        (other_stages, "different stages .stages is not set in first, 3 in second"),
        (other_question, "question 1 of mini-EVOKE differs from the one in first"),
        (other_scorer, "mini-MME was scored differently"),
        (other_answers, "Vanilla, seed 0, is in both, but its answers to mini-POPE differ"),
        (other_settings, "LoRA was trained with rank = 32 in first and 8 in second"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(one, other, bend, says):
    merge([("first", one), ("second", other)])
    with pytest.raises(UserError, match=says) as caught:
        merge([("first", one), ("second", bend(other))])
    assert caught.value.location == "second"
    assert caught.value.hint


def test_a_row_is_trained_on_one_knowledge(one, other):
    """Whether as another seed or with other benchmarks; rows of their own may differ, and old records do not say."""
    whole, half = (SIGNATURE + f"|knowledge:{name}" for name in ("aaa", "bbb"))
    first, seed = replace(one, signature=whole), replace(one, cells=(replace(one.cells[1], seed=1),), signature=half)
    with pytest.raises(UserError, match="LoRA was trained on other knowledge than in first") as caught:
        merge([("first", first), ("second", seed)])
    assert caught.value.location == "second"
    for accepted in (
        replace(seed, signature=whole),
        replace(seed, signature=SIGNATURE),
        replace(other, signature=half),
    ):
        merge([("first", first), ("second", accepted)])


def test_a_mark_of_either_run_counts(one):
    """Leaks are searched beside the questions about the knowledge alone, which a run of other benchmarks lacks."""
    scores = one.cells[1].scores
    retention = changed(one, "LoRA", scores={name: score for name, score in scores.items() if name != "mini-EVOKE"})
    leaked = changed(one, "LoRA", scores={"mini-EVOKE": scores["mini-EVOKE"]}, marks=("leaked",))
    for runs in ([("a", retention), ("b", leaked)], [("b", leaked), ("a", retention)]):
        cell = merge(runs).cells[1]
        assert cell.marks == ("leaked",)
        assert not cell.ranked


def test_other_weights_of_another_model_are_accepted(one, other):
    moved = other_base(replace(other, cells=tuple(replace(cell, model="another") for cell in other.cells)))
    assert len(analyse(merge([("a", one), ("b", moved)])).rows) == 4
