"""Tuning: the same trials for every method, on knowledge held out for it, and all of it written down."""

from __future__ import annotations

import shutil

import pytest
import workbench
import yaml

from benchmarks.catalogue import EVOKE_FILE, INJECTION_FILE, TUNING_FILES
from benchmarks.errors import UserError
from harness.settings import Request, resolve
from harness.sources import evaluation_file, injection_file
from harness.tune import RATES, Trial, choose, fragment, on_tuning_slice, parse_rates, tune


def test_the_best_rate_of_each_method_is_chosen_and_of_equal_ones_the_slowest():
    trials = [
        Trial("a", 1e-2, 50.0),
        Trial("a", 1e-3, 50.0),
        Trial("a", 1e-1, None, "diverged"),
        Trial("b", 1e-3, 1.0),
        Trial("b", 1e-2, 2.0),
        Trial("c", 1e-3, None, "failed"),
    ]
    chosen = {(trial.method, trial.rate) for trial in choose(trials) if trial.chosen}
    assert chosen == {("a", 1e-3), ("b", 1e-2)}


def test_all_that_was_tried_is_written_down():
    trials = choose([Trial("a", 1e-3, 10.0), Trial("a", 1e-2, 20.0), Trial("a", 1e-1, None, "diverged")])
    text = fragment(trials, "mini")
    assert yaml.safe_load(text) == {"methods": {"a": {"learning_rate": 1e-2}}}
    assert all(part in text for part in ("0.001 10.00", "0.01 20.00 chosen", "0.1 diverged"))
    assert "at the edge" not in text
    assert "at the edge" in fragment(choose(trials[:2]), "mini")


def test_rates():
    assert parse_rates(None) == RATES
    assert parse_rates("1e-2,1e-3,1e-2") == (1e-3, 1e-2)
    for text in ("", "fast", "0", "-1", "inf", "nan"):
        with pytest.raises(UserError, match="--rates"):
            parse_rates(text)


def test_tuning_looks_at_the_tuning_slice_alone():
    resolved = resolve("mini")
    tuned = on_tuning_slice(resolved).settings
    assert injection_file(tuned).name == TUNING_FILES["injection"] != injection_file(resolved.settings).name
    assert evaluation_file(tuned).name == TUNING_FILES["evaluation"] != evaluation_file(resolved.settings).name
    assert tuned.benchmarks == ("mini-EVOKE",)


def test_each_method_is_tried_at_each_rate(tmp_path, tiny_folder):
    preset = workbench.lay_out(tmp_path, tiny_folder, items=4)
    request = Request(("lora",), resolve(str(preset), ["training.epochs=1"]), tmp_path / "run")
    with pytest.raises(UserError, match="tuning slice is missing"):
        tune(request, "1e-2", lambda line: None)
    shutil.copy(tmp_path / "data" / INJECTION_FILE, tmp_path / "data" / TUNING_FILES["injection"])
    shutil.copy(tmp_path / "data" / EVOKE_FILE, tmp_path / "data" / TUNING_FILES["evaluation"])
    found = tune(request, "1e-2,3e-2", lambda line: None)
    assert [(trial.method, trial.rate) for trial in found.trials] == [("lora", 1e-2), ("lora", 3e-2)]
    assert all(trial.score is not None for trial in found.trials)
    assert sum(trial.chosen for trial in found.trials) == 1
    assert list(yaml.safe_load(found.path.read_text())["methods"]) == ["lora"]
