"""I9: a kill at any moment costs at most the work since the last step saved; the tables come out byte-identical."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import workbench

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
METHODS = "lora"


def tables(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "report" / "tables").iterdir())}


@pytest.fixture
def preset(tmp_path, tiny_folder) -> Path:
    return workbench.lay_out(tmp_path, tiny_folder)


def test_I9_three_kills_between_writes_change_no_table(preset, tmp_path):
    command = [sys.executable, str(HERE / "lives.py"), str(preset), METHODS, str(tmp_path), "11", "3"]
    done = subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["lost"] == 3
    assert told["codes"] == [0, 0]
    assert tables(tmp_path / "killed") == tables(tmp_path / "whole")
    assert len(tables(tmp_path / "whole")) >= 4
    assert list((tmp_path / "killed").rglob("*.part")) == []


@pytest.mark.slow
def test_I9_twenty_kills_at_random_moments_change_no_table(preset, tmp_path):
    command = [sys.executable, "-m", "harness", "compare", "--methods", "lora,replay,kore", "--preset", str(preset)]
    command += ["--set", "data.old=mini", "--out"]
    started = time.monotonic()
    subprocess.run([*command, str(tmp_path / "whole")], env=ONE_THREAD, check=True, capture_output=True)
    whole, draw, lost = time.monotonic() - started, random.Random(5), 0
    for _ in range(20):
        process = subprocess.Popen(
            [*command, str(tmp_path / "killed")], env=ONE_THREAD, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(draw.uniform(0.3, 1.0) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            lost += 1
    subprocess.run([*command, str(tmp_path / "killed")], env=ONE_THREAD, check=True, capture_output=True)
    assert lost >= 5
    assert tables(tmp_path / "killed") == tables(tmp_path / "whole")
