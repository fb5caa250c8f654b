"""A helper that a method of one's own imports is part of what its row is: when rerun, verified and compared."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from helpers.paths import PYTHONPATH
from helpers.small_runs import write_preset

PLUGIN = """\
from pulling import strength

from methods.base import InjectionMethod, Paper


class Pulled(InjectionMethod):
    name, summary, paper = "pulled", "LoRA with B pulled to zero", Paper("Unpublished", "https://example.org")

    def penalty(self, model, batch, logits):
        named = model.module.named_parameters()
        return strength() * sum(each.square().sum() for name, each in named if "lora_B" in name)
"""
HELPER = "def strength():\n    return {}\n"


@pytest.mark.slow
def test_a_changed_helper_trains_again_and_is_named(tmp_path, tiny_folder):
    """F1 and F12, each command in a process of its own."""
    preset = write_preset(tmp_path, tiny_folder, items=4)
    (tmp_path / "idea.py").write_text(PLUGIN)
    helper = tmp_path / "pulling.py"
    own = {"PYTHONPATH": f"{PYTHONPATH}{os.pathsep}{tmp_path}", "OMP_NUM_THREADS": "1", "COLUMNS": "300"}

    def harness(*arguments):
        command = [sys.executable, "-m", "harness", *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **own}, capture_output=True, text=True, timeout=600
        )

    def compare(out):
        asked = ("--methods", "pulled", "--preset", preset, "--plugin", "idea.py", "--out", out)
        return harness("compare", *asked, "--set", "training.epochs=1", "--set", "answering.max_new_tokens=4")

    helper.write_text(HELPER.format(0.0))
    first = compare("run")
    assert first.returncode == 0, first.stderr
    shutil.copytree(tmp_path / "run", tmp_path / "before")
    assert "reused from earlier runs: 1 training" in compare("run").stderr, "control: the same helper"
    assert harness("verify", "run", "--plugin", "idea.py").returncode == 0
    without = harness("verify", "run")
    assert without.returncode == 2
    assert "pulled" in without.stderr
    assert "Traceback" not in without.stderr
    helper.write_text(HELPER.format(1000.0))
    again = compare("run")
    assert "reused from earlier runs: 0 training" in again.stderr, again.stderr
    differences = harness("diff", "before", "run")
    assert differences.returncode == 0, differences.stderr
    assert "pulling.py" in differences.stdout
