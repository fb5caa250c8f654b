"""Cells computed by other processes: the same bytes as here, even if the processes die."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.errors import UserError
from harness.commands.compare import compare
from harness.config.settings import Request, resolve
from harness.executors.job import MAX_ATTEMPTS, REFUSED, JobResult
from harness.experiment.context import build_context
from harness.experiment.request_file import read_request
from harness.experiment.rows import list_cells
from harness.storage.files import StorageError
from helpers.executor_runs import KILLED_METHOD, adapters, command, run, tables
from helpers.paths import PYTHONPATH


@pytest.mark.slow
def test_workers_store_the_bytes_of_one_process(preset, tmp_path):
    resolved = resolve(str(preset), (), {"workers": 2})
    compare(Request(("lora",), resolved, tmp_path / "spread"))
    compare(Request(("lora",), resolve(str(preset)), tmp_path / "plain"))
    assert tables(tmp_path / "spread") == tables(tmp_path / "plain")
    assert adapters(tmp_path / "spread") == adapters(tmp_path / "plain") != {}


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_and_all_bytes_are_those_of_one_process(preset, killed_method, tmp_path):
    methods = ["--methods", "killed,lora", "--plugin", str(killed_method)]
    log = run(preset, tmp_path / "spread", *methods, "--workers", "2")
    assert "killed seed 0: its process ended (signal 9" in log
    assert "reused from earlier runs: 0 training, 0 answers" in log
    assert (killed_method.parent / "was-killed").exists()
    run(preset, tmp_path / "plain", *methods)
    assert tables(tmp_path / "spread") == tables(tmp_path / "plain")
    assert adapters(tmp_path / "spread") == adapters(tmp_path / "plain")
    assert len(adapters(tmp_path / "plain")) == 4, "two adapters with their manifests"
    logs = sorted((tmp_path / "spread" / "store" / "scratch" / "workers").iterdir())
    before = [log.stat().st_mtime_ns for log in logs]
    again = run(preset, tmp_path / "spread", *methods, "--workers", "2")
    assert "reused from earlier runs: 2 training, 3 answers" in again
    assert [log.stat().st_mtime_ns for log in logs] == before, "no worker is started for stored cells"


@pytest.mark.slow
def test_a_cell_that_kills_every_worker_is_a_failed_row(preset, killed_method, tmp_path):
    (killed_method.parent / "always").touch()
    methods = ["--methods", "killed,lora", "--plugin", str(killed_method)]
    log = run(preset, tmp_path / "out", *methods, "--workers", "2", code=2)
    assert log.count("killed seed 0: its process ended") == MAX_ATTEMPTS - 1
    page = (tmp_path / "out" / "report" / "tables" / "tables.md").read_text()
    assert "3 processes ended over it; the last: signal 9" in page
    assert len(adapters(tmp_path / "out")) == 2, "the other method was trained"


@pytest.mark.slow
def test_a_worker_that_cannot_start_says_why_and_is_not_tried_again(preset, tmp_path):
    plugin = tmp_path / "idea.py"
    plugin.write_text(
        "import sys\nfrom benchmarks.errors import UserError\nfrom methods.base import InjectionMethod, Paper\n"
        "if 'worker' in sys.argv:\n    raise UserError('the licence server is away', hint='start it')\n\n\n"
        "class Idea(InjectionMethod):\n"
        "    name, summary, paper = 'idea', 'LoRA', Paper('Unpublished', 'https://example.org')\n"
    )
    log = run(preset, tmp_path / "out", "--methods", "idea", "--plugin", str(plugin), "--workers", "2", code=2)
    assert "idea seed 0: failed: the licence server is away" in log
    assert "the licence server is away" in (tmp_path / "out" / "report" / "tables" / "tables.md").read_text()
    assert "its process ended" not in log


def start_sleeping(preset: Path, method: Path, folder: Path, seconds: float) -> subprocess.Popen[str]:
    """Start a comparison with workers, one of which computes a cell that does not end, and wait for that cell."""
    method.write_text(KILLED_METHOD.replace("os.kill(os.getpid(), signal.SIGKILL)", "import time; time.sleep(600)"))
    started = subprocess.Popen(
        command(preset, folder / "out", "--methods", "killed", "--plugin", str(method), "--workers", "2"),
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        cwd=folder,
    )
    marker, deadline = method.parent / "was-killed", time.monotonic() + seconds
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert marker.exists()
    return started


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(preset, killed_method, tmp_path):
    started = start_sleeping(preset, killed_method, tmp_path, 120)
    children = psutil.Process(started.pid).children()
    assert children
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert psutil.wait_procs(children, timeout=30)[1] == [], "no worker survives"


@pytest.mark.slow
def test_a_scheduler_that_stops_the_run_does_not_wait_for_its_cells(preset, killed_method, tmp_path):
    started = start_sleeping(preset, killed_method, tmp_path, 300)
    started.terminate()
    said = started.communicate(timeout=120)[1]
    assert started.returncode == 130
    assert said.splitlines()[-1].startswith("stopped; what was finished is kept")


@pytest.mark.slow
def test_a_full_disk_stops_the_run(preset, tmp_path):
    run(preset, tmp_path / "out", "--methods", "lora")
    context = build_context(read_request(tmp_path / "out"))
    with pytest.raises(StorageError, match="no space"):
        JobResult(1, REFUSED, "no space").output(context)
    assert JobResult(1, "ok").output(context).answers
    assert len(list_cells(["lora"], resolve(str(preset)))) == 2


def test_trackers_are_not_left_without_losses(preset, tmp_path):
    resolved = resolve(str(preset), (), {"workers": 2, "track": ("tensorboard",)})
    with pytest.raises(UserError, match="track=tensorboard"):
        compare(Request(("lora",), resolved, tmp_path / "out"))
