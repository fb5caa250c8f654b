"""What of a table is asked, and what is left out and why."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.editing import Editing
from benchmarks.registry import EMBEDDED
from benchmarks.retention import Retention
from benchmarks.retention_specs import SPEC_BY_NAME
from harness.commands.plan import plan
from harness.config.settings import Request, resolve
from harness.data.inputs import BenchmarkTask, RunInputs
from harness.data.pools import Pools
from harness.data.row_accounts import LIMIT, account_notes, row_accounts, unmatched_questions
from helpers import synthetic


def test_rows_of_other_splits_are_accounted_for(tmp_path):
    rows, _ = synthetic.TABLES["MMBench"]()
    other = [row | {"index": int(row["index"]) + 500, "split": "test", "image": synthetic.png(3)} for row in rows[:2]]
    spec = SPEC_BY_NAME["MMBench"]
    benchmark = Retention(synthetic.write([*rows, *other], tmp_path / "a.tsv"), tmp_path / "work", spec)
    task = BenchmarkTask(benchmark, "", tuple(benchmark.questions(4)))
    items = (None, None, None)
    inputs = RunInputs(items[:1], Pools, (task,), all_items=items)  # type: ignore[arg-type]  (only counted)
    knowledge, table = row_accounts(inputs, 4)
    assert (knowledge.read, knowledge.used, knowledge.left_out) == (3, 1, {LIMIT: 2})
    asked = len(task.questions)
    assert table.left_out == {"not of the split 'dev'": 2} | ({LIMIT: len(rows) - asked} if asked < len(rows) else {})
    assert table.read == len(rows) + 2 == table.used + sum(table.left_out.values())
    assert account_notes(inputs, 4) == (f"{table}.",)  # the limit alone has a note of its own
    assert "rows read" in str(table)


def notes_of(questions, items, editing):
    """The notes of a run whose questions, items and questions of editing have these ids."""
    evoke = SimpleNamespace(name="EVOKE", questions=lambda: [SimpleNamespace(id=name) for name in questions])
    further = Editing(Path(), Path())
    further.questions = lambda limit=None: [SimpleNamespace(id=name) for name in editing]
    inputs = RunInputs((), Pools, (BenchmarkTask(evoke, "", ()), BenchmarkTask(further, "", ())), tuple(items))
    return unmatched_questions(inputs)


@pytest.mark.parametrize(
    ("questions", "items", "editing", "expected"),
    [
        (
            "1 2 3 4",
            "1 3",
            "1/loc 3/loc",
            ["EVOKE: 2 of 4 questions have the id of no item of the knowledge, such as '2'"],
        ),
        ("1 3", "1 3", "1/loc 2/loc 3/loc", ["Editing: 1 of 3 questions have the id of no item of the knowledge"]),
        ("a/1 a/2 b/1", "a", "a/loc", ["EVOKE: 1 of 3 questions"]),  # several questions about one item
        ("a/1 a/2", "a", "a/port_new/1", []),
        ("0 1", "1 2", "0/loc 1/loc", []),  # they correspond row by row, as in published EVOKE
        ("q1 q2 q3", "1 2", "", []),  # names of their own say nothing
    ],
)
def test_questions_about_no_item_are_named(questions, items, editing, expected):
    found = notes_of(questions.split(), items.split(), editing.split())
    assert len(found) == len(expected)
    assert all(text in note for text, note in zip(expected, found, strict=True))


def test_the_sentence_is_in_the_plan():
    knowledge = EMBEDDED / "evoke" / "evoke_half_injection_data.json"
    resolved = resolve("mini", {"data.knowledge": knowledge, "benchmarks": ["mini-EVOKE"]})
    shown = plan(Request(("lora",), resolved, Path("runs/none"))).limits
    assert [line for line in shown if line.startswith("mini-EVOKE: 163 of 327 questions")]
