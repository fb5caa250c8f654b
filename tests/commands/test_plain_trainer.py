"""A LoRA trained by plain PEFT and Hugging Face's Trainer on data that we wrote stands in the table beside ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from benchmarks.data.conversations import load_conversations
from benchmarks.errors import UserError
from harness.commands.compare import compare
from harness.commands.training_data import write_training_data
from harness.config.settings import Request, parse_rows, resolve
from helpers import small_runs
from helpers.paths import ROOT
from methods.augmentation.datasets import conversations
from reports.statistics import summary
from reports.statistics.analysis import analyse

LIMIT = 64
"""Items and questions of each benchmark, so that both trainings take seconds."""
BENCHMARKS = ("mini-EVOKE", "mini-POPE")
CLOSE = 12.0
"""Largest difference in K.A, in points: two seeds of one of them differ by as much at this size."""


@pytest.mark.slow
@pytest.mark.usefixtures("short_answers")
def test_the_training_data_of_a_row_are_what_it_was_trained_on(tmp_path, tiny_folder):
    preset = small_runs.write_preset(tmp_path, tiny_folder, old="mini")
    compare(Request(("lora", "lora:kore-data"), resolve(str(preset), ["training.epochs=1"]), tmp_path / "run"))
    for row, data in {"lora": "evoke", "lora:kore-data": "kore"}.items():
        to = tmp_path / row.replace(":", "-")
        written = write_training_data(tmp_path / "run", row, to)
        from harness.experiment.context import build_context
        from harness.experiment.request_file import read_request

        knowledge = build_context(read_request(tmp_path / "run")).inputs.knowledge
        expected = conversations(data, knowledge, 0, knowledge)
        found = [sample for sample, _ in load_conversations(written.file)]
        assert [sample.turns for sample in found] == [sample.turns for sample in expected]
        assert len(found) == written.conversations > 0
        assert str(tmp_path) not in written.file.read_text("utf-8")
        items = {json.loads(line)["item"] for line in written.file.read_text("utf-8").splitlines()}
        assert items == {item.id for item in knowledge}
        with pytest.raises(UserError, match="--to"):
            write_training_data(tmp_path / "run", row, to)
    again = compare(
        Request(
            ("lora",), resolve(str(preset), ["training.epochs=1", f"lora.data={tmp_path / 'lora'}"]), tmp_path / "b"
        )
    )
    (cell,) = [cell for cell in again.run.cells if cell.label == "lora"]
    assert cell.status == "ok", cell.reason


def test_without_a_row_nothing_is_written(tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        write_training_data(tmp_path, "lora", tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_a_lora_of_plain_peft_and_trainer_is_close_to_ours(tmp_path):
    """The script of the docs as it stands, in a process that imports nothing of ours, with the same settings."""
    run = tmp_path / "run"
    settings = [f"benchmarks=[{','.join(BENCHMARKS)}]", f"limit={LIMIT}"]
    compare(Request(("lora",), resolve("mini", settings), run))
    data = write_training_data(run, "lora", tmp_path / "data").file
    resolved = resolve("mini").settings
    own, training = dict(resolved.methods["*"]), resolved.training
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [
        sys.executable, str(ROOT / "examples" / "train_with_peft.py"), str(resolved.model), str(data),
        str(tmp_path / "adapter"), "--epochs", training.epochs, "--batch-size", training.batch_size, "--rank",
        own["rank"], "--alpha", own["alpha"], "--lr", own["learning_rate"], "--projector-lr",
        own["projector_learning_rate"], "--warmup", training.warmup,
    ]  # fmt: skip
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=600, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = parse_rows([f"theirs={tmp_path / 'adapter'}"], [])
    result = compare(Request(("lora",), resolve("mini", settings, rows), run))
    cells = {cell.label: cell for cell in result.run.cells}
    assert cells["theirs"].status == "ok", cells["theirs"].reason
    analysis = analyse(result.run)
    numbers = {row.label: number for number, row in enumerate(analysis.rows)}
    scores = {label: analysis.main[number, summary.KA].value for label, number in numbers.items()}
    kept = {
        label: [cells[label].scores[name].headline for name in BENCHMARKS[1:]]
        for label in ("vanilla", "lora", "theirs")
    }
    print(scores, kept)
    assert scores["lora"] > scores["vanilla"] + 10, "control: there is something to learn"
    assert abs(scores["theirs"] - scores["lora"]) < CLOSE
    for ours, theirs in zip(kept["lora"], kept["theirs"], strict=True):
        assert abs(ours - theirs) < 2 * CLOSE
