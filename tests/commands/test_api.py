"""The Python API: ``from harness import compare, load_run, Preset``."""

from __future__ import annotations

import subprocess
import sys

import pytest

import harness
from benchmarks.errors import UserError
from harness import Preset, compare, load_run
from helpers import small_runs
from helpers.paths import ROOT


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_folder, short_answers):
    folder = tmp_path_factory.mktemp("api")
    preset = Preset(str(small_runs.write_preset(folder, tiny_folder)), {"training.epochs": 1})
    return compare(["lora"], preset=preset, out=folder / "run", seeds=2)


def test_importing_the_package_imports_neither_torch_nor_pandas():
    script = "import sys, harness; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60).returncode == 0


def test_what_the_package_offers():
    assert set(harness.__all__) <= set(dir(harness))
    assert all(getattr(harness, name) for name in harness.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        harness.nonsense  # noqa: B018


def test_the_table_has_a_row_for_each_method(finished):
    table = finished.table()
    assert list(table.index) == ["vanilla", "lora"]
    assert table["K.A"].between(0, 100).all()
    assert set(finished.table("long").columns) >= {"label", "metric", "value", "n", "low", "high", "p"}


def test_K_A_of_the_table_is_the_mean_of_its_answers(finished):
    benchmark = next(name for name in finished.record.cells[0].scores if "EVOKE" in name)
    answers = finished.answers("lora", benchmark)
    assert set(answers["seed"]) == {0, 1}
    expected = 100 * (answers["CEM"].mean() + answers["F1"].mean()) / 2
    assert finished.table().loc["lora", "K.A"] == pytest.approx(expected)


def test_a_plot_is_shown_by_a_notebook(finished):
    assert finished.plot("costs")._repr_svg_().lstrip().startswith("<?xml")


def test_a_stored_run_is_the_same_run(finished):
    again = load_run(finished.folder)
    assert again == finished
    assert again.leaderboard.read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("ask", "hint"),
    [
        (lambda run: run.table("mian"), "main"),
        (lambda run: run.plot("losse"), "losses"),
        (lambda run: run.answers("kore", "x"), "vanilla, lora"),
        (lambda run: run.answers("lora", "x"), "EVOKE"),
    ],
)
def test_what_a_run_does_not_have_is_an_error_that_lists_what_it_has(finished, ask, hint):
    with pytest.raises(UserError) as caught:
        ask(finished)
    assert hint in caught.value.hint


def test_a_preset_with_an_unknown_setting_is_refused():
    with pytest.raises(UserError, match="epoch"):
        Preset("mini", {"training.epoch": 3}).resolve()
    assert Preset("mini", {"training.epochs": 3}).settings.training.epochs == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": [0, 0]}, "a seed is named twice"),
        ({"sweep": {"learning_rate": [1e-3, 1e-3]}}, "different values"),
        ({"data": ["evoke"], "sweep": {"data": ["evoke", "text-aware"]}}, "swept twice"),
        ({"benchmarks": "mini-EVOKE,mini-EVOKE"}, "a benchmark is named twice"),
    ],
)
def test_wrong_arguments_are_refused_as_on_the_command_line(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        compare("lora, replay", out=tmp_path / "run", **arguments)


def test_changes_of_a_preset_are_taken_as_they_are(tmp_path):
    changes = {"label": "a 😀 name", "lora.learning_rate": 1e-5, "data.retention": tmp_path}
    resolved = Preset("mini", changes).resolve()
    assert resolved.settings.label == "a 😀 name"
    assert resolved.settings.methods["lora"]["learning_rate"] == 1e-5
    assert resolved.settings.data.retention == tmp_path


def test_several_processes_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="one process"):
        compare(["lora"], out=tmp_path / "run")
