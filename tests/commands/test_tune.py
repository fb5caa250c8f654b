"""Tuning: the same number of trials for every method, on held-out knowledge, and all of it written down."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter

import pytest
import yaml

import harness.models.registry
from benchmarks.data.knowledge import load_knowledge
from benchmarks.errors import UserError
from benchmarks.registry import EVOKE_FILE, INJECTION_FILE, TUNING_FILES
from harness.commands import tune as tune_module
from harness.commands.tune import _search, on_tuning_slice, tune, with_settings
from harness.commands.tuning_trials import (
    RATES,
    Trial,
    best_of,
    edge_warnings,
    mark_best,
    parse_rates,
    preset_fragment,
    rates_near,
)
from harness.config.settings import Request, resolve
from harness.data.inputs import evaluation_file, injection_file
from harness.experiment.context import build_context
from harness.experiment.preparation import prepare_run
from harness.experiment.rows import list_cells
from helpers import small_runs
from methods.registry import registered


def tried(method: str, rate: float, score: float | None, kept: float | None = None, **more: float) -> Trial:
    return Trial(method, {"learning_rate": rate, **more}, score, kept, reason="" if score is not None else "diverged")


def test_the_best_rate_is_that_of_the_highest_score_and_of_equal_ones_the_slowest():
    trials = [tried("a", 1e-2, 50.0), tried("a", 1e-3, 50.0), tried("a", 1e-1, None), tried("a", 1e-4, 3.0)]
    assert best_of(trials) is trials[1]
    assert best_of([tried("a", 1e-3, None)]) is None
    assert best_of([tried("a", 1e-3, 0.0), tried("a", 1e-4, None)]).rate == 1e-3


def test_the_best_trial_has_learnt_and_kept():
    base = Trial("vanilla", {}, 6.0, 96.0)
    usual, strong, weak = (
        tried("a", 1, score, kept, c=c).over(base)
        for c, score, kept in ((1, 24.0, 72.0), (3, 6.5, 95.0), (0, 26.0, 30.0))
    )
    assert usual.hars == pytest.approx(75.0)  # the harmonic mean of 100 (1 - 6 / 24) and 100 * 72 / 96
    # By K.A the weakest would win, by a plain mean the one that has hardly learnt.
    assert weak.score > usual.score
    assert strong.score + strong.kept > usual.score + usual.kept
    assert best_of([usual, strong, weak]) is usual
    assert best_of([usual, dataclasses.replace(usual)]) is usual  # of equal ones the first
    unlearnt = tried("a", 2, 5.0, 96.0).over(base)
    assert unlearnt.hars is None
    assert best_of([unlearnt, strong]) is strong
    assert tried("a", 1, 9.0).over(base).hars is None  # without pre-training samples only K.A counts
    assert best_of([tried("a", 1, 9.0), tried("a", 2, 10.0)]).rate == 2
    assert best_of([tried("a", 1, None)]) is None


@pytest.mark.parametrize(
    ("best", "more"),
    [(1e-2, (3.2e-3, 3.2e-2)), (1e-3, (1e-4, 3.2e-3)), (1e-1, (3.2e-2, 1.0)), (None, (1e-4, 1e-5))],
)
def test_further_rates_lie_around_the_best_or_beyond_the_edge(best, more):
    assert rates_near((1e-3, 1e-2, 1e-1), best) == pytest.approx(more)
    assert rates_near((1e-3,), 1e-3) == pytest.approx((3.3e-4, 3e-3))


def test_all_that_was_tried_is_written_down():
    trials = [tried("a", 1e-3, 10.0), tried("a", 1e-2, 20.0, 55.0, c=3.0), tried("a", 1e-1, None)]
    text = preset_fragment(mark_best(trials, trials[1]), "About it.\nAnd more.")
    assert yaml.safe_load(text) == {"methods": {"a": {"learning_rate": 1e-2, "c": 3.0}}}
    assert all(part in text for part in ("# About it.\n# And more.", "0.001: 10.00", "c 3: 20.00, 55.00 chosen"))
    assert "0.1: diverged" in text
    assert "at the edge" not in text


def test_a_best_at_the_edge_is_a_warning():
    trials = [tried("a", 1e-3, 1.0), tried("a", 1e-2, 2.0), tried("a", 1e-2, 2.0, c=1), tried("a", 1e-2, 2.0, c=3)]
    assert edge_warnings(mark_best(trials, trials[1])) == ["a: the best learning_rate is at the edge of what was tried"]
    trials.append(tried("a", 1e-1, 1.0))
    assert edge_warnings(mark_best(trials, trials[1])) == []
    assert edge_warnings(mark_best(trials, trials[3])) == ["a: the best c is at the edge of what was tried"]
    assert edge_warnings(mark_best(trials[:1], trials[0])) == []
    assert "at the edge" in preset_fragment(mark_best(trials, trials[3]), "")


def test_rates():
    assert parse_rates(None) == RATES
    assert parse_rates("1e-2,1e-3,1e-2") == (1e-3, 1e-2)
    for text in ("", "fast", "0", "-1", "inf", "nan"):
        with pytest.raises(UserError, match="--rates"):
            parse_rates(text)


def test_tuning_uses_only_the_tuning_slice():
    resolved = resolve("mini")
    tuned = on_tuning_slice(resolved).settings
    assert injection_file(tuned).name == TUNING_FILES["injection"] != injection_file(resolved.settings).name
    assert evaluation_file(tuned).name == TUNING_FILES["evaluation"] != evaluation_file(resolved.settings).name
    assert tuned.benchmarks == ("mini-EVOKE",)
    assert (tuned.stages, tuned.cross) == (1, ())


def test_tuning_makes_as_many_steps_as_the_run_it_is_for():
    settings = resolve("mini-no-extraction").settings
    tuned = on_tuning_slice(resolve("mini-no-extraction")).settings
    whole, part = (len(load_knowledge(injection_file(each))) for each in (settings, tuned))
    assert part < whole
    assert tuned.training.epochs * part == pytest.approx(settings.training.epochs * whole, rel=0.1)
    limited = on_tuning_slice(resolve("mini-no-extraction", ["limit=24"])).settings
    assert limited.training.epochs == settings.training.epochs


def test_a_tuning_slice_in_a_folder_of_its_own_is_used():
    settings = resolve("mini").settings
    tuned = on_tuning_slice(resolve("mini")).settings
    assert injection_file(tuned).parent == settings.data.tuning != injection_file(settings).parent
    assert evaluation_file(tuned).parent == settings.data.tuning
    assert tuned.training.epochs == settings.training.epochs  # as large as the knowledge


def test_every_coefficient_is_a_setting_whose_grid_holds_its_default():
    declared = {name: method for name, method in registered().items() if method.coefficient}
    assert {"replay", "ewc", "lwf"} <= declared.keys()
    for name, method in declared.items():
        values = getattr(method.Settings(), method.coefficient.setting)
        assert values in method.coefficient.grid, name
        assert len(method.coefficient.grid) >= 3, name
        (_, cell) = list_cells([name], resolve("mini"))
        for value in method.coefficient.grid:
            assert getattr(
                with_settings(cell, {method.coefficient.setting: value}).settings.values, method.coefficient.setting
            )


@pytest.mark.parametrize("name", ["memit", "golden-context", "co-svd:plain"])
def test_what_trains_nothing_has_no_learning_rate(name, tmp_path):
    with pytest.raises(UserError, match=f"{name} trains nothing") as caught:
        tune(Request(("lora", name), resolve("mini"), tmp_path / "run"), None)
    assert caught.value.hint == "leave it out"
    assert not (tmp_path / "run").exists()


def test_of_all_methods_those_that_train_are_tuned(caplog):
    caplog.set_level("INFO", logger="harness")
    names = tune_module._tunable(["all", "paper"])
    assert {"lora", "kore", "kore:no-augmentation"} <= set(names)
    assert not {"memit", "co-svd", "in-context", "lora:scaled-0.5"} & set(names)
    assert "no learning rate of their own" in caplog.text
    assert "memit" in caplog.text


def with_a_slice(folder, model, **layout):
    preset = small_runs.write_preset(folder, model, items=4, **layout)
    shutil.copy(folder / "data" / INJECTION_FILE, folder / "data" / TUNING_FILES["injection"])
    shutil.copy(folder / "data" / EVOKE_FILE, folder / "data" / TUNING_FILES["evaluation"])
    return preset


def test_a_preset_without_a_tuning_slice_is_refused(tmp_path, tiny_folder):
    preset = small_runs.write_preset(tmp_path, tiny_folder, items=4)
    with pytest.raises(UserError, match="tuning slice is missing"):
        tune(Request(("lora",), resolve(str(preset)), tmp_path / "run"), "1e-2")


def test_what_the_model_cannot_take_is_refused_before_any_trial(tmp_path, tiny_folder):
    """As in ``compare``: the second question is longer than the window; without it the tuning slice is prepared."""
    preset = with_a_slice(tmp_path, tiny_folder)
    asked = tmp_path / "data" / TUNING_FILES["evaluation"]
    rows = [json.loads(line) for line in asked.read_text("utf-8").splitlines()]
    prepare_run(build_context(Request(("lora",), on_tuning_slice(resolve(str(preset))), tmp_path / "control")))
    rows[1]["text"] = "blue " * 600 + rows[1]["text"]
    asked.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    with pytest.raises(UserError, match=r"1 texts are longer than the model's window(.|\n)*mini-EVOKE, question 1"):
        tune(Request(("lora",), resolve(str(preset)), tmp_path / "run"), "1e-2")
    assert not (tmp_path / "run" / "store" / "training").exists()


@pytest.mark.slow
def test_each_method_gets_the_same_number_of_trials_and_none_is_repeated(tmp_path, tiny_folder, monkeypatch):
    preset = with_a_slice(tmp_path, tiny_folder, old="mini")
    resolved = resolve(str(preset), ["training.epochs=1"])
    request = Request(("lora", "replay"), resolved, tmp_path / "run")
    monkeypatch.setattr("harness.commands.tune.HELDOUT_SAMPLES", 8)
    found = tune(request, "1e-2")
    assert Counter(trial.method for trial in found.trials) == {"vanilla": 1, "lora": 3, "replay": 3}
    assert all(trial.score is not None and 0 <= trial.kept <= 100 for trial in found.trials)
    assert Counter(trial.method for trial in found.trials if trial.chosen) == {"lora": 1, "replay": 1}
    rates = {trial.rate for trial in found.trials if trial.method == "lora"}
    assert len(rates) == 3
    ratios = [trial.settings.get("ratio") for trial in found.trials if trial.method == "replay"]
    assert sorted(ratio for ratio in ratios if ratio) == [0.1, 0.3, 1.0]
    methods = yaml.safe_load(found.path.read_text())["methods"]
    assert methods == {trial.method: dict(trial.settings) for trial in found.trials if trial.chosen}
    assert found.text == found.path.read_text()
    (tmp_path / "tuned.yaml").write_text(preset.read_text().split("methods:")[0] + found.text)
    assert resolve(str(tmp_path / "tuned.yaml")).settings.methods["replay"].keys() == {"learning_rate", "ratio"}

    def refuse(*_):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(harness.models.registry, "load_model", refuse)
    again = tune(request, "1e-2")
    assert again.trials == found.trials


@pytest.mark.parametrize(
    ("name", "scores", "lessons", "more"),
    [
        ("lwf", {1e-3: 1.0, 1e-2: 2.0}, ["one"], [{"coefficient": 0.1}, {"coefficient": 10.0}]),
        ("lwf", {1e-3: 1.0, 1e-2: 2.0}, [], [{"learning_rate": 3.2e-3}, {"learning_rate": 0.1}]),
        ("lora", {1e-3: 1.0, 1e-2: 2.0}, ["one"], [{"learning_rate": 3.2e-3}, {"learning_rate": 0.1}]),
        ("lwf", {1e-3: None, 1e-2: None}, ["one"], [{"learning_rate": 1e-4}, {"learning_rate": 1e-5}]),
    ],
)
def test_what_is_tried_after_the_rates(monkeypatch, name, scores, lessons, more):
    """The coefficient where there are pre-training samples to show what it protects, else the same number of rates."""

    def trial(context, cells, values, lessons, base):
        score = scores.get(values["learning_rate"], 0.5)
        return Trial(cells[0].name, values, score, 50.0 if lessons and score is not None else None)

    monkeypatch.setattr("harness.commands.tune._run_trial", trial)
    (_, cell) = list_cells([name], resolve("mini", ["lwf.coefficient=1"]))
    found = _search(None, [cell], (1e-3, 1e-2), lessons, Trial("vanilla"))
    assert len(found) == 4
    assert [{key: one.settings[key] for key in values} for one, values in zip(found[2:], more, strict=True)] == more
    chosen = [one for one in found if one.chosen]
    assert [one.rate for one in chosen] == ([1e-2] if scores[1e-2] else [1e-5])
