"""Unread and cut answers, and the lenient number, beside every number of a report."""

import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from helpers.fake_run import fake_run
from reports.formats import data, latex, markdown, sheet, terminal
from reports.html.leaderboard import render_pages
from reports.html.score_data import pack_scores, unpack_json
from reports.statistics.analysis import analyse
from reports.tables.run_diff import diff_runs
from reports.tables.tables import long_table, make_tables, pairs_listing

BENCHMARK = "mini-ScienceQA"
UNREAD, CUT = 5, 2


def with_items(cell, change, metrics=()):
    """The cell with every item of every benchmark changed."""
    scores = {
        name: replace(
            result,
            items=tuple(change(name, number, item) for number, item in enumerate(result.items)),
            metrics=dict(result.metrics) | (dict(metrics) if name == BENCHMARK else {}),
        )
        for name, result in cell.scores.items()
    }
    return replace(cell, scores=scores)


def all_read(name, number, item):
    return replace(item, status="empty" if item.status == "empty" else "parsed")


def some_unread(name, number, item):
    """Of LoRA's 24 answers to ScienceQA 5 are unread and 2 cut; one answer about the first type is cut."""
    if name == BENCHMARK and number < UNREAD:
        return replace(item, status="unparsed", truncated=number < CUT)
    return replace(all_read(name, number, item), truncated=name == "mini-EVOKE" and number == 0)


@pytest.fixture(scope="module")
def clean(few_draws):
    run = fake_run(("Vanilla", "LoRA", "KORE"), (0, 1), 24, {"news": {"head of state": 5}, "entity": {"animal": 7}})
    return replace(run, cells=tuple(with_items(cell, all_read) for cell in run.cells))


@pytest.fixture(scope="module")
def unclear(clean):
    lenient = {"headline_lenient": 90.0}
    cells = [with_items(c, some_unread, lenient) if c.label == "LoRA" else c for c in clean.cells]
    return analyse(replace(clean, cells=tuple(cells)))


def test_shares_follow_from_the_items_and_enter_a_summary_by_its_weights(unclear):
    share = 100 * UNREAD / 24
    one = unclear.benchmarks[1, "ScienceQA"]
    assert (one.unread, one.truncated) == (pytest.approx(share), pytest.approx(100 * CUT / 24))
    assert unclear.benchmarks[0, "ScienceQA"].unread == 0
    assert unclear.main[1, "M-DIS"].unread == pytest.approx(share / 2)
    assert unclear.main[1, "K.R (v1)"].unread == pytest.approx(share / 14)
    assert unclear.main[1, "K.R (v2)"].unread == pytest.approx(share / 12)
    assert unclear.main[1, "CEM"].truncated == unclear.main[1, "K.A"].truncated == pytest.approx(100 / 12)
    assert unclear.types[1, "news/head of state/CEM"].truncated == pytest.approx(20)
    assert unclear.types[1, "entity/animal/CEM"].truncated == 0


def test_more_than_five_percent_is_marked_and_still_ranked(unclear):
    assert unclear.benchmarks[1, "ScienceQA"].marks == ("unread", "truncated")
    assert unclear.main[1, "M-DIS"].marks == ("unread",)
    assert unclear.main[1, "K.R (v1)"].marks == ("rule-judge",)  # 1.5 %
    assert unclear.main[1, "CEM"].marks == ("truncated",)
    assert {unclear.benchmarks[row, "ScienceQA"].rank for row in (1, 2)} == {1, 2}


def test_the_lenient_number_stands_beside_the_official_one(unclear):
    one = unclear.benchmarks[1, "ScienceQA"]
    assert one.lenient == 90 != one.value
    gain = one.lenient - one.value
    assert unclear.main[1, "M-DIS"].lenient == pytest.approx(unclear.main[1, "M-DIS"].value + gain / 2)
    assert unclear.main[1, "Avg (v1)"].lenient == pytest.approx(unclear.main[1, "Avg (v1)"].value + gain / 28)
    assert math.isnan(unclear.main[1, "K.A"].lenient)
    assert math.isnan(unclear.benchmarks[0, "ScienceQA"].lenient)


def test_every_format_shows_them(unclear):
    tables = make_tables(unclear)
    main, benchmarks, _ = tables
    row = next(line for line in markdown.render(benchmarks).splitlines() if line.startswith("| LoRA"))
    assert "◊¬" in row
    assert r"\ensuremath{\diamond}\ensuremath{\neg}" in latex.render(benchmarks)
    head, *lines = [line.split(",") for line in sheet.render(benchmarks).splitlines()]
    place = head.index("mini-ScienceQA unread %")
    assert [line[place : place + 3] for line in lines[:2]] == [["0.00", "0.00", ""], ["20.83", "8.33", "90.00"]]
    document = json.loads(data.render(tables))
    cell = document["tables"][1]["lines"][1]["cells"]["ScienceQA"]
    assert (cell["unread"], cell["truncated"], cell["lenient"]) == (20.83, 8.33, 90.0)
    long = long_table(unclear)
    mean = long[(long.label == "LoRA") & (long.seed == "mean") & (long.metric == "ScienceQA")].iloc[0]
    assert (round(mean.unread, 2), round(mean.truncated, 2), mean.lenient) == (20.83, 8.33, 90.0)
    console = Console(width=200, record=True, file=io.StringIO())
    terminal.show(benchmarks, console)
    shown = " ".join(console.export_text().split())
    assert "Share of unread answers in percent, with each column above 5: LoRA 1.7 (ScienceQA 20.8)." in shown
    assert "Share of truncated answers in percent, with each column above 5: LoRA 1.0 (ScienceQA 8.3)." in shown
    page = render_pages(unclear, tables, ())["leaderboard.html"].decode()
    assert '<span class="under shares">20.8 / 8.3 %</span>' in page
    assert '<span class="under lenient">90.00</span>' in page
    scores = unpack_json(pack_scores(unclear))
    place = [measure["key"] for measure in scores["measures"]].index("ScienceQA")
    assert scores["values"][1][place][6:] == [20.83, 8.33, 90.0]
    assert main.has_shares
    assert benchmarks.has_lenient


def test_notes_name_shares_the_lenient_number_and_differences_that_they_may_explain(unclear):
    notes = " ".join(make_tables(unclear)[1].notes)
    assert "◊ unread: more than 5 % of the answers could not be read" in notes
    assert "mini-" not in notes.partition("Read leniently")[2]
    assert "never instead of it): LoRA ScienceQA 90.00." in notes
    assert "LoRA and the base (ScienceQA unread +20.8, truncated +8.3)." in notes
    pairs = " ".join(pairs_listing(unclear).notes)
    assert "LoRA and KORE (K.A truncated +8.3" in pairs


def test_a_run_whose_answers_are_all_read_says_nothing_more(clean):
    analysis = analyse(clean)
    tables = make_tables(analysis)
    assert not any(mark in ("unread", "truncated") for one in analysis.main.values() for mark in one.marks)
    notes = " ".join(note for table in tables for note in table.notes)
    assert "Share of" not in notes
    assert "leniently" not in notes
    assert "differs by more than" not in notes + " ".join(pairs_listing(analysis).notes)
    page = render_pages(analysis, tables, ())["leaderboard.html"].decode()
    assert 'data-show="shares"' not in page
    assert analysis.main[1, "K.R (v1)"].unread == 0


def test_two_runs_that_are_compared_say_it_too(clean, unclear):
    notes = " ".join(note for table in diff_runs(clean, unclear.run) for note in table.notes)
    assert "LoRA after and before (CEM truncated +8.3" in notes
    assert "ScienceQA unread +20.8, truncated +8.3)" in notes
    assert "differs by more than" not in " ".join(diff_runs(clean, clean)[1].notes)


def test_the_share_of_answers_with_a_thinking_block_stands_below_each_table(clean):
    def some_thought(name, number, item):
        return replace(item, thinking=name == BENCHMARK and number < UNREAD)

    cells = [with_items(cell, some_thought) if cell.label == "LoRA" else cell for cell in clean.cells]
    note = "from which a thinking block was cut before scoring: LoRA"
    for run, expected in ((replace(clean, cells=tuple(cells)), True), (clean, False)):
        texts = [text for table in make_tables(analyse(run)) for text in table.notes if note in text]
        assert bool(texts) == expected
        if expected:
            items = sum(len(result.items) for result in cells[1].scores.values())
            share, own = 100 * UNREAD / items, 100 * UNREAD / len(cells[1].scores[BENCHMARK].items)
            assert f"LoRA {share:.1f} ({BENCHMARK} {own:.1f})" in texts[0]
