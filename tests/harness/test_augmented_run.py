"""Training data from a folder, in a whole run: known by content, trained on, and watched for leaks."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from chat_server import serving
from workbench import lay_out

from benchmarks.catalogue import EVOKE_FILE
from benchmarks.records import IMAGE
from harness import cli
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


def test_a_folder_is_trained_on_known_by_its_content_and_watched_for_leaks(laid_out, tmp_path):
    folder = tmp_path / "made"
    rows = json.loads((folder / TRAINING_FILE).read_text())
    turns = next(row for row in rows if row["branch"] == "vqa")["conversations"]
    file = tmp_path / "data" / EVOKE_FILE
    asked = [json.loads(line) for line in file.read_text().splitlines()]
    asked[0] |= {"text": turns[0]["value"].replace(f"{IMAGE}\n", ""), "answer": turns[1]["value"]}
    file.write_text("".join(json.dumps(row) + "\n" for row in asked))
    cells, said, outcome = run(laid_out, tmp_path / "run", f"evoke,{folder}")
    assert outcome.exit_code == 0
    name = identity(str(folder))
    assert set(cells) == {"", "evoke", name}
    assert cells[name].settings["data"].value == name
    assert cells[name].cost.optimiser_steps > cells["evoke"].cost.optimiser_steps
    assert str(tmp_path) not in (tmp_path / "run" / "results.json").read_text()
    assert (cells[name].marks, cells[name].ranked) == (("leaked",), False)
    assert (cells["evoke"].marks, cells["evoke"].ranked) == ((), True)
    assert any("holds 1 evaluation questions" in line for line in said)
    assert verify(tmp_path / "run").differences == ()


def commands() -> list[str]:
    """Those of the page on augmentation, in order."""
    return re.findall(r"^ {4,}python -m harness (.+)$", (ROOT / "docs" / "augment.md").read_text("utf-8"), re.MULTILINE)


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Runs commands of the page, in a folder that holds what the page names."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    monkeypatch.chdir(tmp_path)

    def perform(wanted: str, *more: str) -> None:
        found = [command for command in commands() if re.search(wanted, command)]
        assert found
        for command in found:
            monkeypatch.setattr(sys, "argv", ["harness", *command.split(), *more])
            with pytest.raises(SystemExit) as end:
                cli.main()
            assert not end.value.code, command

    return perform


def test_the_page_augments_ten_items_and_injects_them(page, capsys, tiny_folder, tmp_path):
    page("^augment .* runs/own$")
    assert "70 conversations about 10 items" in capsys.readouterr().out
    assert json.loads((tmp_path / "runs" / "own" / "augmentation.json").read_text())["faults"] == []
    page("^compare .* runs/own-compare$", "--set", f"model={tiny_folder}", "--set", "training.epochs=1")
    assert "augmented-" in capsys.readouterr().out
    assert (tmp_path / "runs" / "own-compare" / "report").is_dir()


def test_the_pages_other_ways_work(page, capsys, clip_folder, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "clip").symlink_to(clip_folder)
    with serving() as server:
        monkeypatch.setenv("OPENAI_API_KEY", "not-a-real-key")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        page("^augment .*--generator openai")
    assert len(server.bodies) == 40
    assert "new calls: 40" in capsys.readouterr().out
    page("^augment .*--images folder")
    page("^augment .*--negatives")
    report = json.loads((tmp_path / "runs" / "own-more" / "augmentation.json").read_text())
    assert report["branches"]["recognition-negative"]["conversations"] == 10


@pytest.mark.slow
def test_the_pages_comparisons_work_on_the_miniature_itself(page, capsys):
    page("^augment .* runs/own$")
    page("^compare")
    assert "kore-relations" in capsys.readouterr().out
