"""ZeRO against one process: two real processes train tiny models through DeepSpeed.

DeepSpeed is an optional extra (``pip install 'knowledge-injection-harness[deepspeed]'``); the trainings are skipped if
it is not installed. Install it to change ``harness/training/strategies/zero.py``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from benchmarks.errors import UserError
from harness.training.checkpoint import check_same_parameters
from harness.training.hook_checks import check_penalty_inputs
from harness.training.strategies.factory import training_strategy
from harness.training.strategies.zero import import_deepspeed
from helpers.paths import PYTHONPATH, TESTS
from methods.registry import registered

LAUNCH = TESTS.parent / "harness" / "launch"
SCRIPT = TESTS / "helpers" / "zero_script.py"
ROWS = ("lora", "ewc", "o-lora", "sefe", "full-ft", "lwf", "moelora", "kore")
CLOSE = 3e-4
"""Greatest distance of the results of two trainings, relative to how far the parameters moved."""
SAME = 1e-4
"""Greatest relative difference of a step's gradient norm or penalty."""
MORE = ("quadratic", "lora:stopped", "full-ft:stopped", "lora:same-rows")


def run_script(count: int, out: Path, *rows: str, code: int = 0) -> str:
    """Train the rows in ``count`` processes and stop them all; returns their output."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)] if count > 1 else []
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": PYTHONPATH,
    }
    process = subprocess.Popen(
        [sys.executable, *launcher, str(SCRIPT), str(out), *rows],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        output = process.communicate(timeout=500)[0]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code, output
    return output


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    run_script(1, out, *(f"none:{row}" for row in ROWS))
    return out


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    pytest.importorskip("deepspeed", reason="an optional extra")
    rows = [f"{kind}:{row}" for kind in ("zero2", "zero3") for row in (*ROWS, *MORE)]
    out = tmp_path_factory.mktemp("two")
    run_script(2, out, *rows, "zero2:lora:halved")
    return out


def distance(one: Path, other: Path, name: str, another: str) -> float:
    """Distance of two results, relative to how far the parameters moved; the larger of two stages."""
    left, right = (load_file(folder / f"{row}.safetensors") for folder, row in ((one, name), (other, another)))
    assert left.keys() == right.keys() != set()
    distances = []
    for stage, moved in enumerate(record(one, name)["moved"], 1):
        keys = [key for key in left if key.startswith(f"{stage}/")]
        assert keys
        assert moved > 0
        distances.append(sum(float((left[key] - right[key]).double().square().sum()) for key in keys) ** 0.5 / moved)
    return max(distances)


def record(folder: Path, name: str) -> dict:
    return json.loads((folder / f"{name}.json").read_text())


def series(folder: Path, name: str, what: str) -> list[float]:
    return [step[what] for step in record(folder, name)["log"]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zero2", "zero3"])
@pytest.mark.parametrize("row", ROWS)
def test_two_processes_train_what_one_trains(alone, two, kind, row):
    assert not record(two, f"{kind}:{row}")["wrong"]
    assert 0 < distance(alone, two, f"none:{row}", f"{kind}:{row}") < CLOSE
    for what in ("loss", "penalty", "grad_norm", "tokens"):
        ours, theirs = series(two, f"{kind}:{row}", what), series(alone, f"none:{row}", what)
        assert ours == pytest.approx(theirs, rel=SAME, abs=1e-7), what
    if row in ("ewc", "o-lora", "sefe", "lwf"):
        assert max(series(two, f"{kind}:{row}", "penalty")) > 1e-3, "the penalty is used"


@pytest.mark.slow
def test_a_wrong_gradient_would_be_detected(alone, two):
    """Adam hides a wrong factor from the weights, but the reported norm shows it; lost rows show in the weights."""
    halved, right = series(two, "zero2:lora:halved", "grad_norm"), series(alone, "none:lora", "grad_norm")
    assert 2 * halved[0] == pytest.approx(right[0], rel=SAME)
    assert abs(halved[0] / right[0] - 1) > 100 * SAME
    for kind in ("zero2", "zero3"):
        assert distance(alone, two, "none:lora", f"{kind}:lora:same-rows") > 100 * CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zero2", "zero3"])
@pytest.mark.parametrize("row", ["lora", "full-ft"])
def test_a_stopped_training_continues_bit_for_bit(two, kind, row):
    uninterrupted, continued = (load_file(two / f"{kind}:{row}{how}.safetensors") for how in ("", ":stopped"))
    assert uninterrupted.keys() == continued.keys()
    assert all(torch.equal(uninterrupted[name], continued[name]) for name in uninterrupted)
    assert series(two, f"{kind}:{row}", "loss") == series(two, f"{kind}:{row}:stopped", "loss")
    assert list((two / "states").glob(f"{kind} {row} *")), "there was a checkpoint"


@pytest.mark.slow
def test_a_penalty_over_sharded_parameters_is_refused(two):
    assert "its penalty could not read the base's weights" in record(two, "zero3:quadratic")["wrong"]
    assert not record(two, "zero2:quadratic")["wrong"]
    assert min(series(two, "zero2:quadratic", "penalty")) > 0


@pytest.mark.slow
def test_a_process_that_fails_alone_ends_the_others(tmp_path):
    """Under ZeRO-3 the others wait for its shard of the weights, and cannot be notified."""
    pytest.importorskip("deepspeed", reason="an optional extra")
    output = run_script(2, tmp_path, "zero3:lora:fails", code=1)
    assert "process 1 failed and the others wait for it: no luck here" in output


def test_only_a_penalty_over_sharded_parameters_is_refused():
    weight = torch.nn.Parameter(torch.zeros(2))
    groups = [{"params": [weight], "names": ["weight"]}]
    full_ft, ewc = (registered()[name](registered()[name].Settings()) for name in ("full-ft", "ewc"))
    check_penalty_inputs(full_ft, groups, {weight}, "row")
    check_penalty_inputs(ewc, groups, set(), "row")
    with pytest.raises(UserError, match="could not read the base's weights"):
        check_penalty_inputs(ewc, groups, {weight}, "row")


def test_without_deepspeed_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    with pytest.raises(UserError, match=r"pip install 'knowledge-injection-harness\[deepspeed\]'"):
        import_deepspeed(torch.device("cpu"))


def test_a_checkpoint_of_another_training_is_refused():
    shapes = {"a": torch.Size([2])}
    check_same_parameters(shapes, {"value/a": torch.zeros(2), "step/a": torch.zeros(())})
    for wrong in ({"value/b": torch.zeros(2)}, {"value/a": torch.zeros(3)}, {}):
        with pytest.raises(UserError, match="belongs to another training"):
            check_same_parameters(shapes, wrong)


@pytest.mark.parametrize("stage", [2, 3])
def test_each_stage_has_a_launch_configuration(stage):
    config = yaml.safe_load((LAUNCH / f"zero{stage}.yaml").read_text())
    assert config["distributed_type"] == "DEEPSPEED"
    assert config["deepspeed_config"]["zero_stage"] == stage
    strategy = training_strategy(f"zero{stage}", None)
    assert strategy.stage == stage
    assert strategy.invalidates_model
