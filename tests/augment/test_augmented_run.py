"""Training data from a folder, in a complete run: identified by content, trained on, and checked for leaks."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path

import pytest

from benchmarks.errors import UserError
from benchmarks.records import IMAGE
from benchmarks.registry import EVOKE_FILE, INJECTION_FILE
from harness import cli
from harness.augment.options import Options
from harness.commands import compare as conductor
from harness.commands.augment import augment
from harness.commands.verify import verify
from harness.config.settings import Request, resolve
from harness.config.sweep import parse_axes
from harness.experiment.compose import compose
from harness.experiment.context import RunContext, build_context
from harness.experiment.leaks import count_leaked
from harness.experiment.outputs import CellOutput
from harness.experiment.resources import make_resources
from harness.experiment.stages import list_stages
from helpers.chat_server import serving
from helpers.log_lines import log_lines
from helpers.paths import ROOT
from helpers.small_runs import write_preset
from methods.augmentation.datasets import TRAINING_FILE, identity
from reports.record import CellResult

NAME = "lora"


def run(preset: Path, out: Path, data: str) -> tuple[dict[str, CellResult], list[str], conductor.CompareResult]:
    resolved = resolve(str(preset), (), {"cross": parse_axes(data, ())})
    with log_lines() as lines:
        outcome = conductor.compare(Request((NAME,), resolved, out))
    return {cell.data: cell for cell in outcome.run.cells}, lines, outcome


@pytest.fixture
def laid_out(tmp_path, tiny_folder) -> Path:
    preset = write_preset(tmp_path, tiny_folder, items=4)
    augment(Options(tmp_path / "data", tmp_path / "made"))
    return preset


@pytest.fixture
def leaking(laid_out, tmp_path) -> Path:
    """The first short question of the training data is an evaluation question too."""
    rows = json.loads((tmp_path / "made" / TRAINING_FILE).read_text())
    turns = next(row for row in rows if row["branch"] == "vqa")["conversations"]
    file = tmp_path / "data" / EVOKE_FILE
    questions = [json.loads(line) for line in file.read_text().splitlines()]
    questions[0] |= {"text": turns[0]["value"].replace(f"{IMAGE}\n", ""), "answer": turns[1]["value"]}
    file.write_text("".join(json.dumps(row) + "\n" for row in questions))
    return laid_out


def test_training_data_with_an_evaluation_question_is_found_and_not_ranked(leaking, tmp_path):
    """No training is needed: leaks are counted in the training data."""
    folder = tmp_path / "made"
    resolved = resolve(str(leaking), (), {"cross": parse_axes(f"evoke,{folder}", ())})
    context = build_context(Request((NAME,), resolved, tmp_path / "run"))
    outputs = [CellOutput(cell, status="diverged", leaks=count_leaked(context, cell)) for cell in context.cells]
    cells = {cell.data: cell for cell in compose(outputs, context.inputs, resolved, "").cells}
    name = identity(str(folder))
    assert {data: cell.marks for data, cell in cells.items()} == {"": (), "evoke": (), name: ("leaked",)}
    assert not dataclasses.replace(cells[name], status="ok").ranked
    assert dataclasses.replace(cells["evoke"], status="ok").ranked  # control
    assert str(tmp_path) not in repr(cells)


def test_a_tree_without_short_questions_is_refused_before_anything_is_computed(tmp_path, tiny_folder):
    preset = write_preset(tmp_path, tiny_folder, items=4)
    file = tmp_path / "data" / INJECTION_FILE
    file.write_text(json.dumps([{**row, "facts": []} for row in json.loads(file.read_text())]))

    def start(*names: str, sets: tuple[str, ...] = ()) -> None:
        build_context(Request(names, resolve(str(preset), sets), tmp_path / "run"))

    for names in (("kore",), ("lora", "lora:kore-data")):
        with pytest.raises(UserError, match="branch vqa"):
            start(*names)
    start("kore", sets=("kore.allow_empty_branches=true",))
    start("lora", "kore:no-augmentation")  # control: these train on the knowledge as published


def strip_items(folder: Path, *, keep_ids: bool) -> None:
    """Make rows that name no item, as KORE-74K's; their ids may name it or be numbers of rows."""
    rows = json.loads((folder / TRAINING_FILE).read_text())
    for number, row in enumerate(rows):
        row["item"] = ""
        row["id"] = row["id"] if keep_ids else f"row {number}"
    (folder / TRAINING_FILE).write_text(json.dumps(rows))


@pytest.mark.parametrize("flag", [{"stages": 2}, {"limit": 2}])
def test_rows_without_items_are_divided_among_stages_or_refused(laid_out, tmp_path, flag):
    folder = tmp_path / "made"

    def start(**flags: int) -> RunContext:
        resolved = resolve(str(laid_out), (f"lora.data={folder}",), flags)
        return build_context(Request((NAME,), resolved, tmp_path / "run"))

    strip_items(folder, keep_ids=True)
    context = start(**flag)
    (cell,) = (cell for cell in context.cells if cell.settings)
    for stage in list_stages(context, cell):
        ids = {item.id for item in stage.knowledge}
        samples = cell.make().training_data(stage.knowledge, make_resources(context, stage))
        assert len(stage.knowledge) == 2
        assert {sample.id.partition("/")[0] for sample in samples} == ids
    strip_items(folder, keep_ids=False)
    with pytest.raises(UserError, match=r"only 4 of 20 rows that name no item .* 'row 1'"):
        start(**flag)
    start()  # control: undivided, all rows are trained on


@pytest.mark.slow
def test_a_folder_is_trained_on_identified_by_content_and_checked_for_leaks(leaking, tmp_path):
    folder = tmp_path / "made"
    cells, lines, outcome = run(leaking, tmp_path / "run", f"evoke,{folder}")
    assert outcome.exit_code == 0
    name = identity(str(folder))
    assert set(cells) == {"", "evoke", name}
    assert cells[name].settings["data"].value == name
    assert cells[name].cost.optimiser_steps > cells["evoke"].cost.optimiser_steps
    assert str(tmp_path) not in (tmp_path / "run" / "results.json").read_text()
    assert (cells[name].marks, cells[name].ranked) == (("leaked",), False)
    assert (cells["evoke"].marks, cells["evoke"].ranked) == ((), True)
    assert any("contains 1 evaluation questions" in line for line in lines)
    assert verify(tmp_path / "run").differences == ()


def commands() -> list[str]:
    """The commands in docs/augment.md, in order."""
    return re.findall(r"^ {4,}python -m harness (.+)$", (ROOT / "docs" / "augment.md").read_text("utf-8"), re.MULTILINE)


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Runs commands of docs/augment.md in a folder with the files that they name."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "benchmarks").symlink_to(ROOT / "benchmarks")
    monkeypatch.chdir(tmp_path)

    def perform(pattern: str, *more: str, instead: str = "") -> None:
        matching = [command for command in commands() if re.search(pattern, command)]
        matching = [f"{instead} {command.partition(' ')[2]}" if instead else command for command in matching]
        assert matching
        for command in matching:
            monkeypatch.setattr(sys, "argv", ["harness", *command.split(), *more])
            with pytest.raises(SystemExit) as end:
                cli.main()
            assert not end.value.code, command

    return perform


def test_the_page_augments_ten_items_and_plans_to_inject_them(page, capsys, tmp_path):
    page("^augment .* runs/own$")
    assert "70 conversations about 10 items" in capsys.readouterr().out
    assert json.loads((tmp_path / "runs" / "own" / "augmentation.json").read_text())["faults"] == []
    page("^compare .* runs/own-compare$", instead="plan")
    output = capsys.readouterr().out
    assert identity("runs/own") in output


@pytest.mark.slow
def test_the_page_injects_them_into_a_tiny_model(page, capsys, tiny_folder, tmp_path):
    page("^augment .* runs/own$")
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
