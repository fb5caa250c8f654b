"""Trained parameters in the main table, and the mark of rows that train more or fewer than the reference."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from helpers.fake_run import fake_run
from reports.formats import data, latex, markdown, sheet, terminal
from reports.html.leaderboard import render_pages
from reports.marks import OTHER_SIZE as MARK
from reports.record import Cost
from reports.statistics.analysis import analyse
from reports.tables.parameters import COLUMN
from reports.tables.tables import make_tables


@pytest.fixture(scope="module")
def run():
    return fake_run(("Vanilla", "LoRA", "Replay", "KORE"), (0,), 6)


def main_table(run, counts, reference=""):
    cells = [
        replace(one, cost=Cost(trainable_parameters=counts.get(one.label, 0)), size_reference=one.label == reference)
        for one in run.cells
    ]
    return make_tables(analyse(replace(run, cells=tuple(cells))))[0]


def marks(table):
    found = {line.label: line.cells[COLUMN.key].marks for line in table.lines if COLUMN.key in line.cells}
    return [label for label, of_row in found.items() if of_row == (MARK,)]


def test_rows_more_than_five_percent_off_are_marked(run):
    table = main_table(run, {"LoRA": 1_000_000, "Replay": 1_050_000, "KORE": 1_050_001})
    assert table.columns[-1] == COLUMN
    assert marks(table) == ["KORE"]
    (note,) = [note for note in table.notes if MARK in note]
    assert note == "△ other-size: trains over 5 % more or fewer parameters than LoRA: KORE 1.05 times."
    assert table.n(COLUMN) is None
    rest = {line.label: {k: v for k, v in line.cells.items() if k != COLUMN.key} for line in table.lines}
    without = main_table(run, {})
    assert {line.label: dict(line.cells) for line in without.lines} == rest
    assert COLUMN not in without.columns
    assert not any(MARK in note for note in without.notes)


def test_the_reference_is_the_declared_row_or_the_first(run):
    counts = {"LoRA": 1_000_000, "Replay": 2_000_000, "KORE": 2_000_000}
    assert marks(main_table(run, counts)) == ["Replay", "KORE"]
    assert marks(main_table(run, counts, reference="KORE")) == ["LoRA"]
    assert marks(main_table(run, counts | {"KORE": 0}, reference="KORE")) == ["Replay"]  # it failed: the first is it


def test_every_format_shows_them(run):
    table = main_table(run, {"LoRA": 340_795_392, "Replay": 340_795_392, "KORE": 459_264})
    assert "| 340.80 |" in markdown.render(table)
    assert "| 0.46△ |" in markdown.render(table)
    assert r"0.46\rlap{\textsuperscript{\ensuremath{\triangle}}}" in latex.render(table)
    assert f"0.46,,,0,,,,,{MARK}" in sheet.render(table)
    shown = json.loads(data.render((table,)))["tables"][0]["lines"][-1]["cells"][COLUMN.key]
    assert (shown["value"], shown["marks"]) == (0.46, [MARK])
    out = io.StringIO()
    terminal.show(table, Console(file=out, width=400, color_system=None))
    assert " 0.46△" in out.getvalue()
    run_with = replace(run, cells=tuple(replace(one, cost=Cost(trainable_parameters=2_000_000)) for one in run.cells))
    analysis = analyse(run_with)
    page = render_pages(analysis, make_tables(analysis), ())["leaderboard.html"].decode()
    assert 'data-m="parameters" data-g="Size"' in page
