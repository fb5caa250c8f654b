"""Rows that reuse another row's adapter with its update scaled."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.errors import UserError
from harness.commands.check_method import check_method
from harness.commands.compare import compare
from harness.commands.tune import tune
from harness.commands.verify import verify
from harness.config.scaled_rows import split_scaled
from harness.config.settings import Request, resolve
from harness.config.sweep import parse_axes
from harness.experiment.cell import CacheInputs
from harness.experiment.rows import list_cells
from harness.storage.digests import digest
from helpers.small_runs import write_preset
from reports.record import SCALED

INPUTS = CacheInputs("base", "knowledge", "old", {"epochs": 2}, 8, "cpu", "float32")


def cells_of(*names):
    return {cell.label: cell for cell in list_cells(names, resolve("mini"))}


def answers(cell):
    return [item.answer for result in cell.scores.values() for item in result.items]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lora", ("lora", None)),
        ("lora:scaled-0.5", ("lora", 0.5)),
        ("kore:rank-64:scaled-1", ("kore:rank-64", 1.0)),
        ("lora:rate-2e-4", ("lora:rate-2e-4", None)),
    ],
)
def test_a_name_says_row_and_factor(name, expected):
    assert split_scaled(name) == expected


@pytest.mark.parametrize("factor", ["0", "0.0", "-1", "half", "", "nan", "inf"])
def test_another_factor_is_refused_by_name(factor):
    name = f"lora:scaled-{factor}"
    with pytest.raises(UserError, match="changes no logit" if factor in ("0", "0.0") else "above 0") as caught:
        cells_of(name)
    assert caught.value.location == f"--methods {name}"


def test_an_unknown_row_cannot_be_scaled():
    with pytest.raises(UserError, match="no method is named 'lorra'"):
        cells_of("lorra:scaled-0.5")
    with pytest.raises(UserError, match="no method is named 'vanilla'"):
        cells_of("vanilla:scaled-0.5")


def test_the_training_is_that_of_the_row_and_the_answers_are_not():
    cells = cells_of("lora", "lora:scaled-0.5", "lora:scaled-0.75", "lora:kore-data", "lora:kore-data:scaled-0.5")
    training = {label: digest(cell.training_key(INPUTS)) for label, cell in cells.items() if cell.settings}
    asked = {label: digest(cell.answers_key(INPUTS, "adapter", ())) for label, cell in cells.items()}
    assert training["lora"] == training["lora:scaled-0.5"] == training["lora:scaled-0.75"]
    assert training["lora:kore-data"] == training["lora:kore-data:scaled-0.5"] != training["lora"]
    assert len(set(asked.values())) == len(cells)
    other = cells["lora:scaled-0.5"].answers_key(INPUTS, "another adapter", ())
    assert digest(other) != asked["lora:scaled-0.5"]


def test_other_rows_keep_their_keys_and_curves():
    alone, beside = cells_of("lora")["lora"], cells_of("lora", "lora:scaled-0.5")["lora"]
    assert (alone.swept, alone.curve, dict(alone.coordinates)) == ("", "", {})
    assert (beside.swept, beside.curve, beside.coordinates) == (SCALED, "lora", {SCALED: 1.0})
    assert alone.label == beside.label
    assert alone.training_key(INPUTS) == beside.training_key(INPUTS)
    assert alone.answers_key(INPUTS, "a", ()) == beside.answers_key(INPUTS, "a", ())
    assert "scale" not in alone.identity()
    assert dataclasses.replace(beside, swept="") == alone


def test_one_factor_written_twice_is_one_row():
    (_, cell) = cells_of("lora:scaled-0.5", "lora:scaled-0.50").values()
    assert cell.also == ("lora:scaled-0.50",)


def test_points_of_one_training_are_one_curve(tmp_path, tiny_folder, short_answers):
    preset = write_preset(tmp_path, tiny_folder, old="mini")
    names = ("lora:scaled-0.5", "lora", "lora:scaled-1", "full-ft:scaled-0.5")
    result = compare(Request(names, resolve(str(preset), ("training.epochs=1",)), tmp_path / "run"))
    cells = {cell.label: cell for cell in result.run.cells}
    assert {cell.status for cell in cells.values()} == {"ok"}, [cell.reason for cell in cells.values()]
    assert answers(cells["lora:scaled-1"]) == answers(cells["lora"])
    assert answers(cells["lora:scaled-0.5"]) != answers(cells["lora"])
    assert len({cells[name].signature for name in names}) == len(names)
    assert cells["lora:scaled-0.5"].cost.optimiser_steps == cells["lora"].cost.optimiser_steps
    assert "update of lora times 0.5" in cells["lora:scaled-0.5"].summary
    adapters = list((tmp_path / "run" / "store" / "adapters").rglob("*.safetensors"))
    assert len(adapters) == 2, "one training of lora, although a scaled row came first, and one of full-ft"
    points = {label: (cell.curve, cell.swept, cell.crossed) for label, cell in cells.items() if cell.curve == "lora"}
    assert points == {
        "lora:scaled-0.5": ("lora", SCALED, {SCALED: 0.5}),
        "lora": ("lora", SCALED, {SCALED: 1.0}),
        "lora:scaled-1": ("lora", SCALED, {SCALED: 1.0}),
    }, "reports join cells of one curve"
    assert not verify(tmp_path / "run").differences


def test_a_sweep_scales_each_of_its_points():
    resolved = resolve("mini", (), {"cross": parse_axes(None, ["learning_rate=1e-3,3e-3"])})
    cells = {cell.label: cell for cell in list_cells(["lora", "lora:scaled-0.5"], resolved) if cell.settings}
    assert len(cells) == 4
    scaled = [cell for cell in cells.values() if cell.scale is not None]
    assert [cell.settings.values.learning_rate for cell in scaled] == [1e-3, 3e-3]
    for cell in scaled:
        whole = cells[cell.source]
        assert digest(cell.training_key(INPUTS)) == digest(whole.training_key(INPUTS))
        assert whole.swept == "learning_rate", "the sweep's own curve"


def test_what_has_no_training_of_its_own_is_not_tuned_or_checked(tmp_path):
    with pytest.raises(UserError, match=r"update of lora times 0\.5(.|\n)*name lora instead") as caught:
        check_method("lora:scaled-0.5")
    assert caught.value.location == "check-method"
    request = Request(("lora", "lora:scaled-0.5"), resolve("mini"), tmp_path / "run")
    with pytest.raises(UserError, match="no training of its own"):
        tune(request, None)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_processes_train_it_once_as_well(tmp_path, tiny_folder, short_answers):
    preset = write_preset(tmp_path, tiny_folder, old="mini")
    names = ("lora:scaled-0.5", "lora")
    settings = ("training.epochs=1", "workers=2")
    result = compare(Request(names, resolve(str(preset), settings), tmp_path / "run"))
    assert {cell.status for cell in result.run.cells} == {"ok"}, [cell.reason for cell in result.run.cells]
    assert len(list((tmp_path / "run" / "store" / "adapters").rglob("*.safetensors"))) == 1
