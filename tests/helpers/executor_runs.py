"""Whole comparisons in subprocesses, and a method whose process is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from helpers.paths import PYTHONPATH

KILLED_METHOD = '''
import os, signal
from pathlib import Path
from methods.lora import LoRA

class Killed(LoRA):
    """LoRA whose process is killed in its third step or, with the file "always", in every first step."""
    name = "killed"
    variants = {}

    def penalty(self, model, batch, logits):
        here = Path(__file__).parent
        self.steps = getattr(self, "steps", 0) + 1
        always = (here / "always").exists()
        if always or (self.steps == 3 and not (here / "was-killed").exists()):
            (here / "was-killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return None
'''


def command(preset: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "harness", "compare", "--preset", str(preset), "--out", str(out), *more]


def run(preset: Path, out: Path, *more: str, code: int = 0) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH}
    done = subprocess.run(
        command(preset, out, *more), capture_output=True, text=True, env=environment, cwd=out.parent, timeout=600
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr


def tables(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "report" / "tables").iterdir())}


def adapters(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "store" / "adapters").iterdir())}
