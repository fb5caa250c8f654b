"""Whole runs that ask for editing's measures, with a local server as the judge."""

from __future__ import annotations

import json

import pytest

from benchmarks.registry import EVOKE_FILE
from harness.commands import compare as conductor
from harness.commands.verify import verify
from harness.config.settings import Request, resolve
from helpers import small_runs
from helpers.chat_server import serving
from reports.statistics.analysis import analyse
from reports.tables.editing import editing_table

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_answers")]


@pytest.fixture
def bench(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    small_runs.write_preset(tmp_path, tiny_folder)
    return tmp_path


def write_editing(folder):
    """The questions about the new knowledge in other words, on another item's picture, and two of locality each."""
    rows = [json.loads(line) for line in (folder / EVOKE_FILE).read_text().splitlines()]
    for row in rows:
        number = row["question_id"]
        row |= {"rephrase": f"Count its stripes ({number}).", "image_rephrase": f"{number}.png"}
        row |= {"loc": f"What is {number} and one?", "m_loc": row["image"], "m_loc_q": f"Is it a cat ({number})?"}
    (folder / "editing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(bench, out="run", **flags):
    return conductor.compare(Request(("lora",), resolve(str(bench / "small.yaml"), (), flags), bench / out))


def test_measures_and_verdicts_of_a_whole_run(bench, monkeypatch):
    write_editing(bench / "data")
    with serving(lambda number, body: {"content": "CORRECT"}) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        run(bench, "plain", judge="openai:m")
        assert not server.bodies  # a run without these measures asks the judge nothing about EVOKE
        result = run(bench, editing=True, judge="openai:m")
        calls = len(server.bodies)
        assert calls > 0
        again = run(bench, editing=True, judge="openai:m")
        assert len(server.bodies) == calls
    assert result.exit_code == again.exit_code == 0
    vanilla, lora = result.run.cells
    assert {len(vanilla.scores[name].items) for name in ("mini-EVOKE", "mini-Editing")} == {8, 32}
    assert vanilla.scores["mini-Editing"].marks == ()
    judged = lora.scores["mini-EVOKE"]
    assert judged.judge == "openai:m"
    assert {item.values["judged"] for item in judged.items} <= {0.0, 1.0}
    analysis = analyse(result.run)
    assert analysis.editing[0, "locality/text"].value == analysis.editing[0, "locality/image"].value == 100
    assert analysis.editing[1, "locality/text"].value <= 100
    table = editing_table(analysis)
    assert len(table.columns) == 6
    assert any("portability (“port_new”)" in note for note in table.notes)
    assert "Editing measures" in (bench / "run" / "report" / "tables" / "tables.md").read_text()
    report = verify(bench / "run")  # without the server: the replies are stored
    assert report.differences == ()


@pytest.fixture
def without_report(monkeypatch):
    """Leave out the report, which takes longest."""
    monkeypatch.setattr(conductor, "write_report", lambda record, folder: folder)


def test_data_without_such_questions_give_an_empty_table_that_says_so(bench, without_report):
    result = run(bench, editing=True)
    assert result.exit_code == 0
    table = editing_table(analyse(result.run))
    assert table.columns == ()
    assert any(note.startswith("Not measured") for note in table.notes)


def test_a_judge_that_is_down_is_asked_again(bench, monkeypatch, without_report):
    with serving(lambda number, body: {"status": 400, "message": "out of order"}) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        failed = run(bench, editing=True, judge="openai:m")
    assert all("judged" not in cell.scores["mini-EVOKE"].metrics for cell in failed.run.cells)
    assert any("calls failed" in note for cell in failed.run.cells for note in cell.scores["mini-EVOKE"].notes)
    with serving(lambda number, body: {"content": "INCORRECT"}) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        asked = run(bench, editing=True, judge="openai:m")
        assert server.bodies
    assert all(cell.scores["mini-EVOKE"].metrics["judged"] == 0 for cell in asked.run.cells)
