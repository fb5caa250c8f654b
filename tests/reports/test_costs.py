"""What each method was trained on and what it cost, as text."""

from __future__ import annotations

import csv
import dataclasses
import io

from helpers.fake_run import fake_run
from reports.record import Cost
from reports.statistics.analysis import analyse
from reports.tables.costs import CSV_HEADS, cost_files

PLAIN = Cost(60.0, 30.0, 2**30, 1000, 66, 5000)
MORE = Cost(200.0, 30.0, 2**29, 400, 492, 35_000)


def costly(costs):
    run = fake_run(("Vanilla", "LoRA", "Replay", "KORE"), (0, 1), 4, types={"news": {"city": 4}})
    cells = tuple(dataclasses.replace(cell, cost=costs.get(cell.label, Cost())) for cell in run.cells)
    return analyse(dataclasses.replace(run, cells=cells))


def test_steps_tokens_parameters_memory_and_time_of_each_method(few_draws):
    files = cost_files(costly({"LoRA": PLAIN, "Replay": PLAIN, "KORE": MORE}))
    text = files["costs.md"]
    assert "| LoRA | 2 | 66 | 5,000 | 1,000 | 1.00 GiB | 60 s | 30 s |" in text
    assert "| KORE | 2 | 492 | 35,000 | 400 | 0.50 GiB | 3.3 min | 30 s |" in text
    assert "Vanilla" not in text
    rows = list(csv.DictReader(io.StringIO(files["costs.csv"])))
    assert tuple(rows[0]) == CSV_HEADS
    assert rows[2]["supervised tokens"] == "35000"


def test_methods_with_equal_budgets_are_named(few_draws):
    text = cost_files(costly({"LoRA": PLAIN, "Replay": PLAIN, "KORE": MORE}))["costs.md"]
    assert "The same number of steps and of supervised tokens: LoRA and Replay." in text
    assert "KORE: 7.45 times the steps and 7.00 times the tokens of LoRA." in text


def test_the_base_alone_has_no_costs(few_draws):
    assert cost_files(analyse(fake_run(("Vanilla",), (0,), 4))) == {}
