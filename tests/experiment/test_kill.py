"""I9: a kill at any moment costs at most the work since the last step saved; the tables come out byte-identical."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import small_runs
from helpers.paths import PYTHONPATH, ROOT, TESTS

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH}
METHODS = "lora"


def tables(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "report" / "tables").iterdir())}


@pytest.fixture
def preset(tmp_path, tiny_folder) -> Path:
    return small_runs.write_preset(tmp_path, tiny_folder)


@pytest.mark.slow
def test_I9_three_kills_between_writes_change_no_table(preset, tmp_path):
    command = [
        sys.executable,
        str(TESTS / "helpers" / "subprocess_kills.py"),
        str(preset),
        METHODS,
        str(tmp_path),
        "11",
        "3",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["killed"] == 3
    assert report["codes"] == [0, 0]
    assert tables(tmp_path / "killed") == tables(tmp_path / "whole")
    assert len(tables(tmp_path / "whole")) >= 4
    assert list((tmp_path / "killed").rglob("*.part")) == []


@pytest.mark.slow
def test_I9_a_scheduler_that_stops_the_run_is_told_how_to_go_on(preset, tmp_path):
    command = [sys.executable, "-m", "harness", "compare", "--methods", METHODS, "--preset", str(preset)]
    command += ["--out", str(tmp_path / "run"), "--set", "training.epochs=5000"]
    with subprocess.Popen(command, cwd=ROOT, env=ONE_THREAD, stderr=subprocess.PIPE, text=True) as running:
        next(line for line in running.stderr if "to train on" in line)
        running.terminate()
        said = running.communicate(timeout=60)[1]
    assert running.returncode == 130
    assert said.splitlines()[-1] == "stopped; what was finished is kept, and the same command continues from here"
    assert "Traceback" not in said


def test_a_terminal_without_the_letters_gets_question_marks():
    script = "from harness.console import *; prepare_process(); print_lines('K.A \u2192 \U0001f600')"
    plain = {**ONE_THREAD, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=plain, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "K.A ? ?\n")


@pytest.mark.slow
def test_I9_twenty_kills_at_random_moments_change_no_table(preset, tmp_path):
    script = [sys.executable, str(ROOT / "tests" / "kill" / "random_moments.py"), "--kills", "20", "--seed", "5"]
    options = ["--methods", "lora,replay,kore", "--preset", str(preset), "--set", "data.old=mini"]
    command = [*script, "--out", str(tmp_path / "runs"), "--", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("kill ") == 20
    assert ", 0 differ; 0 half-written" in done.stdout
