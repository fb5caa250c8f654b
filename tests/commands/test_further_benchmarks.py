"""Benchmarks of one's own in a run: their columns, and what they leave as it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from benchmarks.errors import UserError
from benchmarks.further import published_datasets
from harness.commands import doctor
from harness.commands import fetch as fetching
from harness.commands.compare import compare
from harness.commands.verify import verify
from harness.config.further import benchmark_flags
from harness.config.settings import Request, resolve
from harness.data.requirements import check_requirements, select_requirements
from harness.experiment.request_file import read_request
from helpers import small_runs, synthetic
from helpers.paths import ROOT, TESTS
from reports.merge import merge
from reports.record import from_json
from reports.statistics.analysis import analyse
from reports.tables.tables import make_tables

EXAMPLE = TESTS / "plugin_package" / "colours_benchmark" / "colours.yaml"


@pytest.fixture
def preset(tmp_path, tiny_folder):
    return small_runs.write_preset(tmp_path, tiny_folder, old="mini")


def run(preset, out, *files, **flags):
    request = Request(("lora",), resolve(str(preset), (), {**benchmark_flags(files), **flags}), out)
    compare(request)
    return from_json((out / "results.json").read_bytes())


def columns(record, key):
    table = next(table for table in make_tables(analyse(record)) if table.key == key)
    return {column.key: column.group for column in table.columns}, table


@pytest.mark.slow
def test_its_columns_are_further_ones_and_change_no_other_number(preset, tmp_path):
    plain = run(preset, tmp_path / "plain")
    record = run(preset, tmp_path / "run", EXAMPLE)
    assert record.further == {"colours": "perception"}
    for key in ("main", "benchmarks"):
        groups, table = columns(record, key)
        assert groups["colours"] == "Further"
        one = table.lines[1].cells["colours"]
        assert one.n == 12
        assert one.low <= one.value <= one.high
        assert 0 <= one.p <= 1
    main, before = analyse(record).main, analyse(plain).main
    assert main == before, "K.A, K.R and Avg are those without it"
    assert len({entry.cluster for entry in record.questions if entry.benchmark == "colours"}) == 6
    assert "|choice, accuracy|n 12|data " in record.cells[0].scores["colours"].signature
    page = (tmp_path / "run" / "report" / "leaderboard.html").read_text()
    assert "Further" in page
    assert "in no summary" in page
    assert str(EXAMPLE.parent) not in (tmp_path / "run" / "results.json").read_text()
    merged = merge([("plain", plain), ("run", record)])
    assert merged.further == record.further


@pytest.mark.slow
def test_a_run_can_be_opened_again_without_its_file(preset, tmp_path):
    shutil.copytree(EXAMPLE.parent, tmp_path / "own")
    record = run(preset, tmp_path / "run", tmp_path / "own" / EXAMPLE.name)
    (tmp_path / "own" / EXAMPLE.name).unlink()
    assert read_request(tmp_path / "run").resolved.settings.further["colours"].cluster == "scene"
    assert not verify(tmp_path / "run").differences
    shutil.copytree(EXAMPLE.parent, tmp_path / "moved")
    again = run(preset, tmp_path / "run", tmp_path / "moved" / EXAMPLE.name)
    assert again.cells[0].scores["colours"].signature == record.cells[0].scores["colours"].signature
    text = (tmp_path / "moved" / EXAMPLE.name).read_text()
    (tmp_path / "moved" / EXAMPLE.name).write_text(text.replace("cluster: scene\n", ""))
    other = run(preset, tmp_path / "run", tmp_path / "moved" / EXAMPLE.name)
    assert other.cells[0].scores["colours"].signature != record.cells[0].scores["colours"].signature


@pytest.mark.slow
def test_workers_know_it(preset, tmp_path):
    record = run(preset, tmp_path / "run", EXAMPLE, workers=2)
    assert {cell.status for cell in record.cells} == {"ok"}
    assert all("colours" in cell.scores for cell in record.cells)


@pytest.mark.slow
def test_the_command_refuses_what_is_wrong_before_it_computes(preset, tmp_path):
    shutil.copytree(EXAMPLE.parent, tmp_path / "own")
    (tmp_path / "own" / "POPE.yaml").write_text(EXAMPLE.read_text())
    rows = (tmp_path / "own" / "colours.jsonl").read_text().splitlines()
    rows[3] = json.dumps({key: value for key, value in json.loads(rows[3]).items() if key != "label"})
    (tmp_path / "own" / "colours.jsonl").write_text("\n".join(rows))
    command = [sys.executable, "-m", "harness", "compare", "--methods", "lora", "--preset", str(preset)]
    for files, words in (
        (["colours.yaml"], ["colours.jsonl:4: it has no answer", "1 bad row"]),
        (["POPE.yaml"], ["another benchmark has this name", "POPE"]),
        (["none.yaml"], ["none.yaml", "cannot be read"]),
        (["colours.yaml", "colours.yaml"], ["two benchmarks have the name 'colours'"]),
    ):
        flags = [word for name in files for word in ("--benchmark", str(tmp_path / "own" / name))]
        done = subprocess.run(
            [*command, "--out", str(tmp_path / "run"), *flags], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 2, done.stderr
        said = " ".join((done.stdout + done.stderr).split())
        assert all(word in said for word in words), said
    assert not (tmp_path / "run" / "results.json").exists()


@pytest.mark.slow
def test_a_benchmark_of_vlmevalkit_is_asked_by_its_name(tmp_path, tiny_folder):
    preset = small_runs.write_preset(tmp_path, tiny_folder, old="mini", retention="tables")
    (tmp_path / "tables").mkdir()
    rows = [
        {"index": i, "image": synthetic.png(i), "question": "Colour?", "answer": "AB"[i % 2], "A": "red", "B": "blue"}
        for i in range(4)
    ]
    changes = {"benchmarks": ("mini-EVOKE", "RealWorldQA")}
    with pytest.raises(UserError, match="RealWorldQA: not there"):
        check_requirements(resolve(str(preset), (), changes), ["lora"])
    lines = doctor.examine(tmp_path, str(preset), None, ["benchmarks=[mini-EVOKE, RealWorldQA]"])
    (line,) = [line for line in lines if line.what == "RealWorldQA"]
    assert line.state == "missing"
    assert "--only RealWorldQA" in line.hint
    synthetic.write(rows, tmp_path / "tables" / "RealWorldQA.tsv")
    record = run(preset, tmp_path / "run", **changes)
    assert record.further == {"RealWorldQA": "Further"}
    assert record.cells[0].scores["RealWorldQA"].n == 4
    assert record.cells[0].scores["RealWorldQA"].notes == ("not the published table",)
    assert not verify(tmp_path / "run").differences


def test_fetch_takes_only_the_table_that_vlmevalkit_declares(tmp_path, tiny_folder, monkeypatch):
    preset = small_runs.write_preset(tmp_path, tiny_folder, retention="tables")
    resolved = resolve(str(preset), (), {"benchmarks": ("mini-EVOKE", "RealWorldQA")})
    (need,) = select_requirements(resolved, "RealWorldQA")
    asked = []

    def download(address, partial):
        asked.append(address)
        partial.write_bytes(b"another table")

    monkeypatch.setattr(fetching, "_download", download)
    monkeypatch.setenv(fetching.TABLES, "http://127.0.0.1/tables")
    with pytest.raises(UserError, match=f"not {published_datasets()['RealWorldQA'].md5}"):
        fetching.fetch([need])
    assert asked == ["http://127.0.0.1/tables/VLMEval/RealWorldQA.tsv"]
    assert not need.path.exists()


def test_an_unknown_name_gets_the_nearest(preset):
    for wrong, right in (("MMStr", "MMStar"), ("mini-POP", "mini-POPE")):
        with pytest.raises(UserError, match=f"did you mean '{right}'"):
            resolve(str(preset), (), {"benchmarks": ("mini-EVOKE", wrong)})


def test_a_preset_may_hold_it(preset, tmp_path):
    shutil.copy(EXAMPLE.with_suffix(".jsonl"), tmp_path / "table.jsonl")
    columns = "{question: prompt, answer: label, image: picture}"
    preset.write_text(
        preset.read_text() + f"further:\n  mine: {{family: choice, table: table.jsonl, columns: {columns}}}\n"
    )
    settings = resolve(str(preset)).settings
    assert settings.benchmarks == ("mini-EVOKE", "mine")
    assert settings.further["mine"].table == tmp_path / "table.jsonl"
    preset.write_text(preset.read_text().replace("family: choice", "family: riddle"))
    with pytest.raises(UserError, match="family"):
        resolve(str(preset))
