"""The note that counts the branches of the knowledge tree beside the paper's."""

from __future__ import annotations

from dataclasses import replace

from helpers.fake_run import fake_run
from reports.record import from_json, to_json
from reports.statistics.analysis import analyse
from reports.tables.branches import KORE_74K, branch_notes
from reports.tables.tables import make_tables

PAPER = "the paper's KORE-74K 74,734 (9,422 dialogue, 9,422 recognition, 9,422 caption, 46,468 vqa)."


def test_rows_with_a_tree_are_counted_beside_the_paper_also_where_a_branch_is_empty():
    run = fake_run(labels=("Vanilla", "LoRA", "KORE", "Replay"), seeds=(0,), per_benchmark=2)
    base, lora, kore, replay = run.cells
    tree = {"caption": 3, "dialogue": 3, "recognition": 3}
    cells = (
        base,
        replace(lora, branches={"knowledge": 3}),
        replace(kore, branches=tree),
        replace(replay, branches=tree | {"vqa": 1200, "replay": 2}),
    )
    run = replace(run, cells=cells)
    (note,) = branch_notes(analyse(run))
    assert note == (
        "Training conversations by branch of the knowledge tree: KORE 9 (3 dialogue, 3 recognition, 3 caption, 0 vqa); "
        f"Replay 1,211 (3 dialogue, 3 recognition, 3 caption, 1,200 vqa, 2 replay); {PAPER}"
    )
    assert note in make_tables(analyse(run))[0].notes
    assert from_json(to_json(run)).cells[2].branches == tree


def test_without_a_tree_there_is_no_note():
    run = fake_run(labels=("Vanilla", "LoRA"), seeds=(0,), per_benchmark=2)
    assert branch_notes(analyse(run)) == []
    base, lora = run.cells
    assert branch_notes(analyse(replace(run, cells=(base, replace(lora, branches={"knowledge": 3}))))) == []


def test_the_paper_s_counts_add_up():
    assert sum(KORE_74K.values()) == 74_734
