"""The documented task sequence of two data sets: the page's own lines on the miniature, and its matrix by hand."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness import compare, load_run
from helpers.paths import PYTHONPATH, ROOT
from reports.statistics.analysis import analyse
from reports.statistics.stages import stage_analysis

PAGE = ROOT / "docs" / "fair-comparison.md"
NAMES = ("countries", "news")
SIZES = {"countries": 43, "news": 162}


def documented(program: str) -> list[str]:
    """The words after ``python`` of the page's line that begins so, in the section about task sequences."""
    section = PAGE.read_text("utf-8").partition("a task sequence\n")[2].replace("\\\n", " ")
    line = next(line for line in section.splitlines() if line.startswith(f"    python {program}"))
    return shlex.split(line)[1:]


def execute(words: list[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def split(target: Path) -> list[str]:
    """Run the documented split into ``target``; returns the words of the documented comparison over it."""
    execute([word.replace("runs/split", str(target)) for word in documented("examples/")])
    return [word.replace("runs/split", str(target)) for word in documented("-m harness compare")]


def test_the_split_is_that_of_the_miniatures_data(tmp_path):
    words = split(tmp_path)
    assert f"stages=[{{knowledge: {tmp_path}/countries}}, {{knowledge: {tmp_path}/news}}]" in words
    source = ROOT / "benchmarks" / "mini" / "data" / "evoke"
    whole = {row["id"]: row for row in json.loads((source / "evoke_injection_data.json").read_text("utf-8"))}
    for name, size in SIZES.items():
        rows = json.loads((tmp_path / name / "evoke_injection_data.json").read_text("utf-8"))
        assert len(rows) == size
        assert all(whole[row["id"]] == row for row in rows)
        questions = (tmp_path / name / "evoke_evaluation_data.jsonl").read_text("utf-8").splitlines()
        assert {json.loads(line)["question_id"] for line in questions} == {row["id"] for row in rows}
        assert all((tmp_path / name / row["image"]).is_file() for row in rows)


@pytest.mark.slow
def test_the_documented_sequence_runs_and_its_matrix_follows_from_its_answers(tmp_path):
    words = split(tmp_path / "split")
    out = tmp_path / "run"
    words[words.index("--out") + 1] = str(out)
    execute([*words, "--limit", "48"])
    assert "no difference" in execute(["-m", "harness", "verify", str(out)])
    run = load_run(out)
    numbers = []
    for row in stage_analysis(analyse(run.record)):
        (cell,) = [cell for cell in run.record.cells if cell.label == row.label]
        assert [(stage.name, stage.items) for stage in cell.stages] == [("countries", 24), ("news", 24)]
        answered = run.answers(row.label, "mini-EVOKE").set_index("id")
        by_hand = [100 * (answered["CEM"] + answered["F1"])[list(stage.questions)].mean() / 2 for stage in cell.stages]
        first = cell.stages[0]
        own = 100 * sum(first.adaptation[name] for name in first.questions) / len(first.questions)
        assert [value.value for value in row.matrix[2]] == pytest.approx(by_hand)
        assert row.matrix[1][0].value == pytest.approx(own)
        assert row.matrix[1][1] is None
        assert row.average.value == pytest.approx(sum(by_hand) / 2)
        assert row.backward.value == pytest.approx(by_hand[0] - own)
        assert row.forgetting.value == pytest.approx(own - by_hand[0])
        numbers += by_hand
    assert max(numbers) > 0
    page = (out / "report" / "leaderboard.html").read_text("utf-8")
    assert "after countries" in page
    assert "in the order countries, news" in page
    sets = [{"knowledge": tmp_path / "split" / name} for name in NAMES]
    again = compare("lora,kore", stages=sets, benchmarks="mini-EVOKE", limit=48, out=out)
    assert again.record == run.record  # from Python the same run, all of which is stored
    assert list(again.table("stage-matrix").columns) == list(NAMES)
