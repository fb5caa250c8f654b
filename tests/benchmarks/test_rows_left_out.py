"""What of a table is asked, and what is left out and why."""

from __future__ import annotations

from benchmarks.retention import Retention
from benchmarks.retention_specs import SPEC_BY_NAME
from harness.data.inputs import BenchmarkTask, RunInputs
from harness.data.pools import Pools
from harness.data.row_accounts import LIMIT, account_notes, row_accounts
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
