"""The table of editing's measures: worked examples, the base as its own reference, and that no other table changes."""

from __future__ import annotations

import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from harness.storage.files import atomic_write
from helpers.fake_run import fake_run
from reports.build import build
from reports.formats import latex, markdown, sheet, terminal
from reports.html.leaderboard import render_pages
from reports.record import BenchmarkResult, ItemResult, QuestionEntry, from_json, to_json
from reports.statistics.analysis import analyse
from reports.tables.editing import editing_table
from reports.tables.tables import make_tables

NAME, COUNT = "mini-Editing", 24
MEASURES = ("generality/text", "portability/2-hop", "locality/text", "locality/image")
TYPES = {"news": {"leader": 4}, "entity": {"animal": 6}}


def entries(measures=MEASURES):
    """Questions of each measure; two each share a picture."""
    return tuple(
        QuestionEntry(f"{n}/{measure}", NAME, f"Question {n}?", "Accra", "animal", measure, f"{measure} {n // 2}")
        for measure in measures
        for n in range(COUNT)
    )


def result(said, measures=MEASURES, failed=()):
    """What a row answers: ``said`` maps a measure and a number to a text."""
    items = []
    for entry in entries(measures):
        number = int(entry.id.partition("/")[0])
        text = said(entry.group, number)
        status = "failed" if (entry.group, number) in failed else "parsed"
        items.append(ItemResult(entry.id, {"CEM": float("accra" in text.lower())}, text, status))
    return BenchmarkResult(None, {}, tuple(items), signature=NAME)


def base(measure, number):
    return f"answer {number}" if measure.startswith("locality") else "Lima"


def same(measure, number):
    """The base's answers, written otherwise."""
    return f"The ANSWER, {number}."


def half(measure, number):
    """Knows 18 of 24, 6 of 24 over two hops, and keeps 12 and 22 of 24 of the base's answers."""
    right = {"generality/text": 18, "portability/2-hop": 6}
    if measure in right:
        return "It is Accra." if number < right[measure] else "Lima"
    return base(measure, number) if number < {"locality/text": 12, "locality/image": 22}[measure] else "Accra"


def everything(measure, number):
    """Gives one answer to all: the control that must not keep anything."""
    return "Accra"


SAID = {"Vanilla": base, "LoRA": half, "Replay": same, "KORE": everything}


def with_editing(said=None, measures=MEASURES, seeds=(0,), **kinds):
    run = fake_run(tuple(said or SAID), seeds, 2, TYPES)
    cells = tuple(
        dataclasses.replace(cell, scores={**cell.scores, NAME: result((said or SAID)[cell.label], measures, **kinds)})
        for cell in run.cells
    )
    return dataclasses.replace(run, cells=cells, questions=(*run.questions, *entries(measures)))


@pytest.fixture(scope="module")
def analysis(few_draws):
    return analyse(with_editing())


def row_of(analysis, label):
    return next(number for number, row in enumerate(analysis.rows) if row.label == label)


def test_worked_example(analysis):
    numbers = {measure: analysis.editing[row_of(analysis, "LoRA"), measure] for measure in MEASURES}
    assert {measure: one.value for measure, one in numbers.items()} == pytest.approx(
        {"generality/text": 75, "portability/2-hop": 25, "locality/text": 50, "locality/image": 100 * 22 / 24}
    )
    assert all(one.low < one.value < one.high for one in numbers.values())
    assert all(one.n == COUNT for one in numbers.values())
    assert numbers["generality/text"].delta == pytest.approx(75)


def test_the_base_and_a_row_that_answers_alike_keep_everything_and_a_row_that_changes_all_keeps_nothing(analysis):
    for measure in ("locality/text", "locality/image"):
        values = {row.label: analysis.editing[number, measure].value for number, row in enumerate(analysis.rows)}
        assert values["Vanilla"] == values["Replay"] == 100
        assert values["KORE"] == 0
        kept = analysis.editing[row_of(analysis, "Replay"), measure]
        assert kept.low < 100  # so few questions do not prove that it always keeps them


def test_what_the_base_keeps_by_definition_has_no_interval_and_no_test(analysis):
    vanilla, lora, kore = (row_of(analysis, label) for label in ("Vanilla", "LoRA", "KORE"))
    assert np.isnan(analysis.editing[vanilla, "locality/text"].low)
    assert np.isnan(analysis.editing[lora, "locality/text"].p)
    assert (lora, "locality/text") not in analysis.against[vanilla]
    assert analysis.against[lora][kore, "locality/text"].delta == -50  # rows are compared with each other
    assert analysis.editing[lora, "generality/text"].p < 0.2


def test_the_interval_is_that_of_a_bootstrap_over_clusters(analysis):
    """Answers kept on six of twelve pictures, drawn again here picture by picture, and one by one as a control.

    The percentiles are those of Hesterberg (2015), section 5.3, for twelve clusters.
    """
    tail = stats.norm.cdf(stats.t.ppf(0.025, 11) * np.sqrt(12 / 11))
    kept = np.array([half("locality/text", n) == base("locality/text", n) for n in range(COUNT)], dtype=float)
    generator, one = np.random.default_rng(3), analysis.editing[row_of(analysis, "LoRA"), "locality/text"]
    by_picture = generator.choice(kept.reshape(-1, 2).mean(axis=1), (4000, COUNT // 2)).mean(axis=1)
    one_by_one = generator.choice(kept, (4000, COUNT)).mean(axis=1)
    assert one.low == pytest.approx(100 * np.quantile(by_picture, tail), abs=1)
    assert one.low < 100 * np.quantile(one_by_one, tail) - 5


def test_a_failed_answer_is_not_kept():
    run = with_editing({"Vanilla": base, "Replay": same}, failed={("locality/text", 0), ("locality/text", 1)})
    assert analyse(run).editing[1, "locality/text"].value == pytest.approx(100 * 22 / 24)


def test_the_mean_over_seeds_and_the_number_of_each():
    run = with_editing({"Vanilla": base, "LoRA": half}, seeds=(0, 1))
    cells = [
        dataclasses.replace(cell, scores={**cell.scores, NAME: result(everything)}) if cell.seed else cell
        for cell in run.cells
    ]
    found = analyse(dataclasses.replace(run, cells=tuple(cells)))
    assert found.editing[1, "locality/text"].seeds == pytest.approx((50, 0))
    assert found.editing[1, "locality/text"].value == pytest.approx(25)
    assert found.editing[1, "generality/text"].seeds == pytest.approx((75, 100))


def test_no_other_table_changes_in_a_digit_or_a_note(analysis):
    run = analysis.run
    cells = tuple(
        dataclasses.replace(cell, scores={name: score for name, score in cell.scores.items() if name != NAME})
        for cell in run.cells
    )
    plain = analyse(dataclasses.replace(run, cells=cells))
    assert editing_table(plain) is None
    tables = {table.key: table for table in make_tables(analysis)}
    assert repr([table for key, table in tables.items() if key != "editing"]) == repr(list(make_tables(plain)))
    assert "editing" in tables
    assert repr(analysis.pairs) == repr(plain.pairs)


def test_columns_notes_and_what_the_data_lack(analysis):
    table = editing_table(analysis)
    assert [(column.group, column.title) for column in table.columns] == [
        ("Generality", "T-Gen"),
        ("Portability", "Port 2-hop"),
        ("Locality", "T-Loc"),
        ("Locality", "I-Loc"),
    ]
    notes = "\n".join(table.notes)
    assert "Not measured, since the data have no such questions: generality by another picture" in notes
    assert "portability (" not in notes
    assert "VLKEB (Huang et al. 2024)" in notes
    assert "No K.A by a judge" in notes
    hops = analyse(
        with_editing(
            measures=("portability/10-hop", "portability/2-hop", "locality/text"),
            said={"Vanilla": base, "Replay": same},
        )
    )
    assert [column.title for column in editing_table(hops).columns] == ["Port 2-hop", "Port 10-hop", "T-Loc"]


def test_without_the_base_there_is_no_locality():
    run = with_editing({"LoRA": half, "KORE": everything})
    found = analyse(run)
    assert {measure for _, measure in found.editing} == {"generality/text", "portability/2-hop"}
    assert any("no answers of the untouched base" in note for note in editing_table(found).notes)


def test_a_run_whose_data_have_no_such_questions_has_a_table_without_columns_in_every_format(few_draws):
    found = analyse(with_editing({"Vanilla": base, "LoRA": half}, measures=()))
    table = editing_table(found)
    assert table.columns == ()
    console = Console(file=io.StringIO(), width=100)
    terminal.show(table, console)
    texts = (markdown.render(table), sheet.render(table), latex.render(table), console.file.getvalue())
    assert all("LoRA" in text for text in texts)
    assert "Not measured" in texts[-1]
    page = render_pages(found, (table,), ())["leaderboard.html"].decode()
    assert 'id="editing"' in page


def judged(run, verdict):
    cells = []
    for cell in run.cells:
        old = cell.scores["mini-EVOKE"]
        items = [
            dataclasses.replace(item, values={**item.values, "judged": verdict(cell.label, place)})
            for place, item in enumerate(old.items)
        ]
        new = dataclasses.replace(old, items=tuple(items), judge="openai:m", notes=("1 replies hold no verdict",))
        cells.append(dataclasses.replace(cell, scores={**cell.scores, "mini-EVOKE": new}))
    return dataclasses.replace(run, cells=tuple(cells))


def test_k_a_by_a_judge_and_its_agreement_with_cem():
    run = judged(
        with_editing({"Vanilla": base, "LoRA": half}), lambda label, place: float(label == "LoRA" and place < 4)
    )
    found = analyse(run)
    items = run.cells[1].scores["mini-EVOKE"].items
    assert found.editing[1, "judged"].value == pytest.approx(40)
    assert found.editing[1, "judged"].delta == pytest.approx(40)
    same_verdict = [(item.values["CEM"] == 1) == (place < 4) for place, item in enumerate(items)]
    assert found.editing[1, "judge agrees with CEM"].value == pytest.approx(100 * sum(same_verdict) / 10)
    assert np.isnan(found.editing[1, "judge agrees with CEM"].p)
    assert found.editing[1, "judge agrees with CEM"].rank == 0
    table = editing_table(found)
    assert [column.title for column in table.columns][-2:] == ["K.A, judged", "judge = CEM"]
    assert any("openai:m is asked of each answer" in note for note in table.notes)
    assert any("1 replies hold no verdict" in note for note in table.notes)


@pytest.mark.slow
def test_every_format_has_the_table(tmp_path):
    run = from_json(to_json(with_editing()))
    build(run, tmp_path, atomic_write)
    document = json.loads((tmp_path / "tables" / "tables.json").read_text())
    (table,) = [one for one in document["tables"] if one["key"] == "editing"]
    lora = next(line for line in table["lines"] if line["label"] == "LoRA")
    assert lora["cells"]["locality/text"]["value"] == 50
    assert "Editing measures" in (tmp_path / "tables" / "tables.md").read_text()
    assert "91.67" in (tmp_path / "tables" / "editing.csv").read_text()
    assert "91.67" in (tmp_path / "tables" / "editing.tex").read_text()
    scores = (tmp_path / "tables" / "scores.csv").read_text()
    assert "editing,locality/image,91.6667" in scores
    page = (tmp_path / "leaderboard.html").read_text()
    assert 'id="editing"' in page
    assert "T-Gen" in page
