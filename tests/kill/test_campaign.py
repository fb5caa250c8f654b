"""I9: whatever stops a command, started again it leaves what an undisturbed one leaves. The campaign finds if not."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.storage.store import Store
from helpers.paths import ROOT
from tests.kill.attempts import environment
from tests.kill.differences import damaged_entries, differences
from tests.kill.faults import Fault

KEY = {"method": "lora", "seed": 0}
WRITES = """
import sys
from pathlib import Path
from harness.storage.store import Store
store = Store(Path(sys.argv[1]) / "store")
store.write_json("scores", {"method": "lora", "seed": 0}, list(range(100)))
store.journal("answers", {"a": 1}).append([1, 2, 3])
"""


def campaign(*options: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kill", *options], cwd=ROOT, capture_output=True, text=True, timeout=3000
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario", ["compare", "workers", "launch", "augment", "export", "training-data", "pretraining"]
)
def test_I9_six_kills_change_no_file(scenario):
    code, said = campaign("--kills", "6", "--seed", "5", "--only", scenario)
    assert code == 0, said
    assert said.splitlines()[-1].startswith("kills: 6, ")
    assert said.endswith("differences: none\n")


@pytest.mark.slow
def test_control_a_write_that_is_torn_unnoticed_is_a_difference():
    code, said = campaign("--kills", "1", "--only", "compare", "--kinds", "unnoticed")
    assert code == 1, said
    assert "store/adapters/" in said.partition("differences: ")[2]


def write_with(tmp_path: Path, **fault) -> tuple[subprocess.CompletedProcess[str], Path, Path]:
    """Write an entry and a journal in a process with a fault; returns also the folder, and the mark."""
    out, mark = tmp_path / "out", tmp_path / "mark"
    variables = environment(Fault(folder=str(out), mark=str(mark), **fault))
    done = subprocess.run(
        [sys.executable, "-c", WRITES, str(out)], env={**os.environ, **variables}, capture_output=True, text=True
    )
    return done, out, mark


def test_a_fault_can_hit_between_content_and_manifest(tmp_path):
    done, out, mark = write_with(tmp_path, kind="SIGKILL", pattern=r"\.manifest\.")
    assert (done.returncode, mark.exists()) == (-9, True)
    store = Store(out / "store")
    assert len(list(out.rglob("scores/*.json"))) == 1
    assert not store.has("scores", KEY)


def test_a_torn_entry_is_found_and_counted(tmp_path):
    done, out, _ = write_with(tmp_path, kind="torn", pattern=r"\.manifest$", at=2)
    assert done.returncode == -9
    store = Store(out / "store")
    assert store.has("scores", KEY)
    assert store.read_json("scores", KEY) is None
    assert damaged_entries(out) == 1


def test_a_torn_journal_keeps_its_whole_lines(tmp_path):
    done, out, _ = write_with(tmp_path, kind="torn", pattern=r"\.log$", share=0.9)
    assert done.returncode == -9
    assert Store(out / "store").journal("answers", {"a": 1}).read() == [1, 2]


def test_a_full_disk_refuses_what_is_new(tmp_path):
    done, out, _ = write_with(tmp_path, kind="full", at=3)
    assert done.returncode == 1
    assert os.strerror(errno.ENOSPC) in done.stderr
    assert not Store(out / "store").has("scores", KEY)


def test_control_without_a_fault_all_is_written_and_every_change_is_listed(tmp_path):
    done, out, changes = write_with(tmp_path, kind="count")
    assert done.returncode == 0, done.stderr
    assert Store(out / "store").read_json("scores", KEY) == list(range(100))
    assert sum(line.endswith(".log") for line in changes.read_text().splitlines()) == 2, "opened and flushed"


def test_what_differs_is_named_except_for_times(tmp_path):
    for name, seconds, score in (("one", 1.0, 50), ("other", 2.0, 50), ("third", 1.0, 51)):
        folder = tmp_path / name
        Store(folder / "store").write_json("scores", KEY, score)
        (folder / "results.json").write_text(json.dumps({"cells": [{"cost": {"training_seconds": seconds}}]}))
    (tmp_path / "third" / ".half.json.part").touch()
    assert differences(tmp_path / "one", tmp_path / "other") == []
    found = differences(tmp_path / "one", tmp_path / "third")
    assert found[0] == ".half.json.part is left over"
    assert [line.split("/")[1] for line in found[1:]] == ["scores", "scores"]
    (tmp_path / "other" / "results.json").unlink()
    assert differences(tmp_path / "one", tmp_path / "other") == ["results.json is missing"]
