"""Each measurement for an accelerator runs from the command line on a tiny model and prints its table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
SIDES = {
    "initialisation": ("ours", "literal"),
    "training": ("plain PEFT and Trainer, LoRA", "our loop, lora", "our loop, kore"),
    "answering": ("generate at batch 1", "our engine, batch 4"),
}
COLUMNS = {
    "initialisation": ("seconds", "peak GB beyond the model", "leaked energy, mean", "literal / this"),
    "training": ("trained parameters", "samples per second", "peak GB beyond the model", "this / first"),
    "answering": ("answers per second", "peak GB beyond the model", "equal answers", "this / first"),
}
IN_TURN = """
import runpy, sys
for script, *options in {runs!r}:
    sys.argv = [script, "--shape", "tiny", "--device", "cpu", "--threads", "1", *options]
    sys.path.insert(0, {here!r})
    runpy.run_path(f"{{sys.path[0]}}/{{script}}.py", run_name="__main__")
"""
"""Runs each script as from the command line, but in one process, because importing torch takes most of the time."""


def rows_of(printed):
    """The Markdown tables by their titles, each a list of rows."""
    tables = {}
    for title, block in re.findall(r"^(\w[\w ]+)\n\n[^\n]*random weights[^\n]*\n\n((?:\|[^\n]*\n)+)", printed, re.M):
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        assert all(len(line) == len(lines[0]) for line in lines)
        assert set("".join(lines[1])) == {"-"}
        tables[title] = [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
    return tables


def printed_by(runs):
    code = IN_TURN.format(runs=runs, here=str(HERE))
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def number(cell):
    return float(re.sub(r"[x%,]", "", cell))


@pytest.fixture(scope="module")
def printed():
    return printed_by([["initialisation", "--dtype", "bfloat16"], ["training"], ["answering", "--per-picture", "2"]])


@pytest.fixture(scope="module")
def tables(printed):
    made = rows_of(printed)
    return dict(zip(("initialisation", "training", "answering"), made.values(), strict=True))


@pytest.mark.parametrize("which", SIDES)
def test_a_measurement_prints_its_table(which, tables):
    rows = tables[which]
    assert tuple(row["side"] for row in rows) == SIDES[which]
    assert set(COLUMNS[which]) <= set(rows[0])
    assert all(number(row[name]) > 0 for row in rows for name in rows[0] if "second" in name or "this" in name)


def test_the_two_sides_did_the_same(tables):
    ours, literal = tables["initialisation"]
    assert number(ours["leaked energy, mean"]) == pytest.approx(number(literal["leaked energy, mean"]), rel=0.02)
    assert (ours["weights"], literal["weights"]) == ("bfloat16", "float32")
    trainer, lora, kore = tables["training"]
    assert trainer["trained parameters"] == lora["trained parameters"] != kore["trained parameters"]
    assert tables["answering"][1]["equal answers"] == "100.00%"


def test_each_table_says_where_and_when(printed):
    assert len(re.findall(r"^\w+ \w+, random weights; .+, 1 threads; \d{4}-\d\d-\d\d; torch \S+$", printed, re.M)) == 3
