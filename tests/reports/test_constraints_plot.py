"""The plot of specific constraints: which rows it pairs, and that its numbers are those of the paired contrasts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import aggregate
from helpers.fake_run import cell, questions
from reports.plots.all_plots import draw_plots
from reports.plots.constraints import constraints, specific_rows
from reports.plots.style import styled
from reports.record import Run
from reports.statistics.analysis import analyse
from reports.text import format_number

TARGETS = {"MME": 0.95, "mini-OCRVQA": 0.6}


@pytest.fixture(scope="module")
def analysis(few_draws):
    """The base, KORE in general, and KORE with the inputs of two benchmarks; and the same two on other data."""
    asked = questions(20)
    general = replace(cell("KORE", asked, 0), label="kore")
    cells = [cell("Vanilla", asked, 0), general]
    for target, kept in TARGETS.items():
        made = cell(f"kore:constraint-{target}", asked, 0, ("kore", f"constraint-{target}", 0.5, kept))
        cells.append(replace(made, evaluation_inputs=(target,), marks=("transductive",)))
    cells.append(replace(cells[-1], label="on other data", data="other"))
    cells.append(replace(cells[2], label="of another method", method="lora"))
    return analyse(Run("constraints", cells=tuple(cells), questions=tuple(asked)))


def test_a_row_is_paired_with_the_plain_row_of_its_method_and_data(analysis):
    pairs = [(analysis.rows[one.row].label, analysis.rows[one.general].label) for one in specific_rows(analysis)]
    assert pairs == [("kore:constraint-MME", "kore"), ("kore:constraint-mini-OCRVQA", "kore")]


def test_gains_are_the_paired_differences_on_the_target_and_elsewhere(analysis):
    with styled():
        plot = constraints(analysis)
    head, *records = plot.data
    assert len(records) == 2 * 12
    own = {record[0]: dict(zip(head, record, strict=True)) for record in records if record[2] == record[3]}
    assert {name: line["target"] for name, line in own.items()} == {
        "kore:constraint-MME": "MME",
        "kore:constraint-mini-OCRVQA": "OCRVQA",
    }
    labels = [row.label for row in analysis.rows]
    for name, line in own.items():
        benchmark = line["target"]
        scores = {row: analysis.benchmarks[labels.index(row), benchmark].value for row in ("Vanilla", "kore", name)}
        assert (line["base"], line["against's score"], line["score"]) == tuple(map(format_number, scores.values()))
        assert line["difference"] == format_number(scores[name] - scores["kore"])
        assert float(line["low"]) < float(line["difference"]) < float(line["high"])
    assert float(own["kore:constraint-MME"]["difference"]) > 0
    others = [float(line[7]) for line in records if line[0] == "kore:constraint-MME" and line[3] != "MME"]
    assert {line[3] for line in records} == set(aggregate.TWELVE)
    assert f"against +{np.mean(others):.2f} on the others in the mean" in plot.alt
    assert plot.key in [each.key for each in draw_plots(analysis)]


def test_without_a_plain_row_or_without_the_target_there_is_no_plot(analysis):
    run = analysis.run
    assert constraints(analyse(replace(run, cells=(run.cells[0], *run.cells[2:])))) is None
    unasked = [
        replace(each, scores={name: score for name, score in each.scores.items() if name == "mini-POPE"})
        for each in run.cells
    ]
    assert constraints(analyse(replace(run, cells=tuple(unasked)))) is None
    old = [replace(each, evaluation_inputs=()) for each in run.cells]  # a record of an earlier version
    assert constraints(analyse(replace(run, cells=tuple(old)))) is None
