"""Training data from a folder, in a whole run: known by content, trained on, and watched for leaks."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from chat_server import serving
from workbench import lay_out

from benchmarks.catalogue import EVOKE_FILE
from benchmarks.records import IMAGE
from harness import compare as conductor
from harness.augment import augment
from harness.augmenting.options import Options
from harness.crossing import axes
from harness.settings import Request, resolve
from harness.verify import verify
from methods.augmentation.choices import TRAINING_FILE, identity
from reports.run import CellResult

ROOT = Path(__file__).parents[2]
NAME = "lora"


def run(preset: Path, out: Path, data: str) -> tuple[dict[str, CellResult], list[str], conductor.Outcome]:
    said: list[str] = []
    resolved = resolve(str(preset), (), {"cross": axes(data, ())})
    outcome = conductor.compare(Request((NAME,), resolved, out), said.append)
    return {cell.data: cell for cell in outcome.run.cells}, said, outcome


@pytest.fixture
def laid_out(tmp_path, tiny_folder) -> Path:
    preset = lay_out(tmp_path, tiny_folder, items=4)
    augment(Options(tmp_path / "data", tmp_path / "made"), lambda line: None)
    return preset


def test_a_folder_is_trained_on_and_known_by_its_content(laid_out, tmp_path):
    folder = tmp_path / "made"
    cells, _, outcome = run(laid_out, tmp_path / "run", f"evoke,{folder}")
    name = identity(str(folder))
    assert set(cells) == {"", "evoke", name}
    assert cells[name].settings["data"].value == name
    assert cells[name].cost.optimiser_steps > cells["evoke"].cost.optimiser_steps
    assert cells[name].ranked
    assert str(tmp_path) not in (tmp_path / "run" / "results.json").read_text()
    assert verify(tmp_path / "run").differences == ()
    moved = folder.rename(tmp_path / "elsewhere")
    _, said, _ = run(laid_out, tmp_path / "run", f"evoke,{moved}")
    assert any("reused from earlier runs: 2 training" in line for line in said)
    rows = json.loads((moved / TRAINING_FILE).read_text())
    (tmp_path / "fewer").mkdir()
    shutil.copytree(moved / "imgs", tmp_path / "fewer" / "imgs")
    (tmp_path / "fewer" / TRAINING_FILE).write_text(json.dumps(rows[:3]))
    _, said, _ = run(laid_out, tmp_path / "run", f"evoke,{tmp_path / 'fewer'}")  # control: other content
    assert any("reused from earlier runs: 1 training" in line for line in said)
    assert outcome.exit_code == 0


def test_a_run_that_trained_on_its_questions_is_never_ranked(laid_out, tmp_path):
    rows = json.loads((tmp_path / "made" / TRAINING_FILE).read_text())
    turns = next(row for row in rows if row["branch"] == "vqa")["conversations"]
    file = tmp_path / "data" / EVOKE_FILE
    asked = [json.loads(line) for line in file.read_text().splitlines()]
    asked[0] |= {"text": turns[0]["value"].replace(f"{IMAGE}\n", ""), "answer": turns[1]["value"]}
    file.write_text("".join(json.dumps(row) + "\n" for row in asked))
    cells, said, _ = run(laid_out, tmp_path / "run", f"evoke,{tmp_path / 'made'}")
    leaked = cells[identity(str(tmp_path / "made"))]
    assert leaked.marks == ("leaked",)
    assert not leaked.ranked
    assert cells["evoke"].marks == ()
    assert cells["evoke"].ranked
    assert any("holds 1 evaluation questions" in line for line in said)
    assert verify(tmp_path / "run").differences == ()


def commands() -> list[str]:
    """Those of the page on augmentation, in order."""
    return re.findall(r"^ {4,}python -m harness (.+)$", (ROOT / "docs" / "augment.md").read_text("utf-8"), re.MULTILINE)


def page(folder: Path, environment: dict[str, str], wanted) -> list[str]:
    """Run commands of the page in a folder that holds what the page names."""
    (folder / "docs").symlink_to(ROOT / "docs")
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    told = []
    for command in commands():
        if wanted(command):
            done = subprocess.run(
                [sys.executable, "-m", "harness", *command.split()],
                cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, capture_output=True, text=True,
                timeout=900,
            )  # fmt: skip
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            told.append(done.stdout)
    return told


def test_the_page_augments_and_injects_ten_items(tmp_path):
    told = page(tmp_path, {}, lambda command: re.search(r"runs/own( |$)", command))
    assert "70 conversations about 10 items" in told[0]
    assert "augmented-" in told[1]
    assert (tmp_path / "runs" / "own-compare" / "report").is_dir()
    assert json.loads((tmp_path / "runs" / "own" / "augmentation.json").read_text())["faults"] == []


def test_the_pages_other_ways_work(tmp_path, clip_folder):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "clip").symlink_to(clip_folder)
    with serving() as server:
        told = page(
            tmp_path,
            {"OPENAI_API_KEY": "not-a-real-key", "OPENAI_BASE_URL": server.url},
            lambda command: command.startswith("augment") and "runs/own-" in command,
        )
    assert len(told) == 3
    assert len(server.bodies) == 40
    assert "new calls: 40" in told[0]
    assert "60 conversations" in told[1] or "70 conversations" in told[1]
    assert "recognition-n" in told[2]


@pytest.mark.slow
def test_the_pages_multi_hop_comparison_works(tmp_path):
    told = page(tmp_path, {}, lambda command: "multihop" in command)
    assert "kore-relations" in told[0]
