"""Cells on a real Ray cluster on this machine, one of whose workers is killed half-way."""

from __future__ import annotations

import pytest

from helpers.executor_runs import adapters, run, tables

pytestmark = pytest.mark.slow


def test_a_worker_that_dies_costs_nothing_and_all_bytes_are_those_of_one_process(preset, killed_method, tmp_path):
    methods = ["--methods", "killed,lora", "--plugin", str(killed_method)]
    log = run(preset, tmp_path / "spread", *methods, "--executor", "ray", "--workers", "2")
    assert (killed_method.parent / "was-killed").exists(), "the worker was killed"
    assert "reused from earlier runs: 0 training, 0 answers" in log
    run(preset, tmp_path / "plain", *methods)
    assert tables(tmp_path / "spread") == tables(tmp_path / "plain")
    assert adapters(tmp_path / "spread") == adapters(tmp_path / "plain") != {}


def test_a_cell_that_kills_every_worker_is_a_failed_row(preset, killed_method, tmp_path):
    (killed_method.parent / "always").touch()
    methods = ["--methods", "killed,lora", "--plugin", str(killed_method)]
    log = run(preset, tmp_path / "out", *methods, "--executor", "ray", code=2)
    assert "killed seed 0: failed: 3 workers ended over it" in log
    assert len(adapters(tmp_path / "out")) == 2, "the other method was trained"
