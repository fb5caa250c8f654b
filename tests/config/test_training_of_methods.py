"""Settings of the training loop for one method: precedence, origins, cache keys and errors."""

from __future__ import annotations

import pytest

from benchmarks.errors import UserError
from harness.commands.compare import compare
from harness.commands.tune import on_tuning_slice
from harness.commands.verify import verify
from harness.config.settings import Request, resolve
from harness.config.sweep import parse_axes
from harness.experiment.cell import CacheInputs
from harness.experiment.rows import list_cells
from helpers import small_runs

CACHE_INPUTS = CacheInputs(
    "b", "k", {"calibration": "c", "replay": "r"}, {"epochs": 6, "batch_size": 32}, 8, "cpu", "float32"
)


def preset(folder, methods: str, training: str = "") -> str:
    path = folder / "own.yaml"
    base = "model: model\ndata: {knowledge: data, retention: data}\nbenchmarks: [mini-EVOKE]\n"
    path.write_text(f"{base}training: {{epochs: 6, batch_size: 32{training}}}\nmethods:\n{methods}")
    return str(path)


def row(name: str, preset: str = "mini", *sets: str, sweep: tuple[str, ...] = ()):
    flags = {"cross": parse_axes(None, sweep)} if sweep else {}
    return list_cells([name], resolve(preset, sets, flags))[1]


def test_sections_of_a_preset_and_the_command_line_override_each_other(tmp_path):
    text = (
        "  '*': {training: {epochs: 5}}\n  lora: {training: {epochs: 4}}\n  'lora:kore-data': {training: {epochs: 3}}\n"
    )
    own = preset(tmp_path, text)

    def epochs(name: str, *sets: str, sweep: tuple[str, ...] = ()) -> tuple[int, str]:
        cell = row(name, own, *sets, sweep=sweep)
        return cell.training.get("epochs", 6), cell.settings.training_origins.get("epochs", "")

    assert [epochs(name)[0] for name in ("ewc", "lora", "lora:kore-data", "lora:equal-steps")] == [5, 4, 3, 4]
    assert epochs("lora") == (4, "preset own")
    assert epochs("lora", "lora.training.epochs=2") == (2, "--set")
    assert epochs("lora:kore-data", "lora.training.epochs=2") == (2, "--set")
    assert epochs("lora", "training.epochs=6") == (6, "")  # given for all, it overrides a preset's section
    assert epochs("lora", "training.epochs=6", "lora.training.epochs=2") == (2, "--set")
    assert epochs("lora", "lora.training.epochs=2", sweep=("training.epochs=7",)) == (7, "--sweep")


def test_the_training_s_key_has_them_and_others_keys_stay():
    usual, plain = row("lora"), row("ewc")
    sets = ("lora.training.batch_size=8", "lora.training.betas=[0.9, 0.95]")
    changed = row("lora", "mini", *sets)
    key = usual.training_key(CACHE_INPUTS)
    training = {"epochs": 6, "batch_size": 8, "betas": [0.9, 0.95]}
    assert changed.training_key(CACHE_INPUTS) == {**key, "training": training}
    assert row("ewc", "mini", *sets).training_key(CACHE_INPUTS) == plain.training_key(CACHE_INPUTS)
    assert row("lora", "mini", "lora.training.batch_size=32").training_key(CACHE_INPUTS) == key  # the run's own value
    assert usual.training == plain.training == {}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("lora.training.epoch=3", r"did you mean 'training\.epochs'"),
        ("*.training.epoch=3", r"did you mean 'training\.epochs'"),
        ("lora.training.epochs=0", r"methods\.lora\.training\.epochs \(--set\)"),
        ("lora.training=3", "there is no setting of lora 'training'"),
        ("lora.training.save_every=3", "there is no setting"),  # which changes nothing that is learned
    ],
)
def test_a_wrong_one_is_named(assignment, message):
    with pytest.raises(UserError, match=message):
        row("lora", "mini", assignment)


def test_tuning_scales_a_method_s_epochs_like_the_run_s():
    tuned = on_tuning_slice(resolve("mini", ["lora.training.epochs=12", "ewc.training.batch_size=8"])).settings
    assert tuned.methods["lora"]["training"]["epochs"] == pytest.approx(2 * tuned.training.epochs, abs=1)
    assert tuned.methods["ewc"]["training"] == {"batch_size": 8}


@pytest.mark.slow
def test_a_run_trains_each_method_by_its_own_and_reports_it(tmp_path, tiny_folder, short_answers):
    preset = str(small_runs.write_preset(tmp_path, tiny_folder, items=4))
    sets = [
        "training.epochs=1",
        "training.batch_size=4",
        "lora.training.batch_size=2",
        "lora.training.betas=[0.9, 0.9]",
    ]
    request = Request(("lora", "o-lora"), resolve(preset, sets), tmp_path / "run")
    cells = {cell.label: cell for cell in compare(request).run.cells}
    assert cells["lora"].cost.optimiser_steps == 2 * cells["o-lora"].cost.optimiser_steps
    shown = {name: cell.settings["training.batch_size"] for name, cell in cells.items() if cell.settings}
    assert [(one.value, one.origin) for one in shown.values()] == [(2, "--set"), (4, "--set")]
    assert cells["lora"].settings["training.betas"].value == [0.9, 0.9]
    assert verify(request.out).differences == ()
