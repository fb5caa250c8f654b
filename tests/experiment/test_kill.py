"""How a command ends that is stopped from outside, and what a poor terminal shows; kills are in ``tests/kill/``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import small_runs
from helpers.paths import PYTHONPATH, ROOT

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH}
METHODS = "lora"


@pytest.fixture
def preset(tmp_path, tiny_folder) -> Path:
    return small_runs.write_preset(tmp_path, tiny_folder)


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
