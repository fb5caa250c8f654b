"""Several processes that compute each cell together, started by `accelerate launch` with the shipped configurations."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.errors import UserError
from harness.commands.compare import compare
from harness.config.settings import Request, resolve
from harness.distributed import process_group as process_group
from harness.distributed.failures import PeerProcessError, is_out_of_memory
from harness.distributed.process_group import SINGLE_PROCESS
from harness.experiment.results import read_entries
from helpers import small_runs
from helpers.executor_runs import adapters, command, tables
from helpers.paths import PYTHONPATH, ROOT, TESTS
from methods import base
from methods.registry import load_plugins

LAUNCH = ROOT / "harness" / "launch"
EXTRA = pytest.mark.skipif(find_spec("deepspeed") is None, reason="an optional extra: pip install '.[deepspeed]'")
CONFIGS = ["ddp", "fsdp", pytest.param("zero2", marks=EXTRA), pytest.param("zero3", marks=EXTRA)]
METHODS = "lora,kore,ewc,lwf,moelora,o-lora,sefe,full-ft"
SMALL = ("ewc.fisher_samples=8", "kore.calibration_samples=8", "moelora.experts=2")
CLOSE = 1e-3
"""Largest relative distance of two adapters, whose sums run in different orders."""


FAILS = '''
import os
from methods.lora import LoRA

class FailsEarly(LoRA):
    """LoRA that fails only in the second process, before it trains."""
    name = "fails-early"
    variants = {}

    def attach(self, model, prepared):
        if os.environ["RANK"] == "1":
            raise ValueError("no luck here")
        super().attach(model, prepared)

class FailsLate(LoRA):
    """LoRA that fails only in the second process, in its second step."""
    name = "fails-late"
    variants = {}
    steps = 0

    def penalty(self, model, batch, logits):
        self.steps += 1
        if os.environ["RANK"] == "1" and self.steps == 2:
            raise ValueError("no luck later")
        return None
'''


def launch(config: str, preset: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    words = [Path(sys.executable).parent / "accelerate", "launch", "--config_file", LAUNCH / f"{config}.yaml"]
    words += ["--num_processes", "2", "--main_process_port", "0", "-m", *command(preset, out, *more)[2:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH}
    return subprocess.Popen(
        list(map(str, words)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=out.parent,
    )


def run_together(config: str, preset: Path, out: Path, *more: str, code: int = 0) -> str:
    process = launch(config, preset, out, *more)
    log = process.communicate(timeout=600)[0]
    assert process.returncode == code, log
    return log


def trained(out: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The adapter of each row."""
    places = {label: place["training"] for (label, _), place in read_entries(out).items() if place["training"]}
    return {label: load_file(out / "store" / "adapters" / f"{key}.safetensors") for label, key in places.items()}


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The norm of the difference as a share of the norm of what was trained."""
    pairs = [(one[name].double(), other[name].double()) for name in one]
    return float(sum((a - b).square().sum() for a, b in pairs).sqrt() / sum(a.square().sum() for a, _ in pairs).sqrt())


@pytest.fixture(scope="module")
def bench(tmp_path_factory, tiny_folder) -> Path:
    """Seven items in batches of four: in one step of each epoch the second process has one row less."""
    return small_runs.write_preset(tmp_path_factory.mktemp("bench"), tiny_folder, items=7, old="mini")


@pytest.fixture(scope="module")
def plain(bench, tmp_path_factory) -> Path:
    """The same run in one process."""
    out = tmp_path_factory.mktemp("plain") / "out"
    compare(Request(tuple(METHODS.split(",")), resolve(str(bench), SMALL), out))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_two_processes_train_what_one_trains(bench, plain, tmp_path, config):
    settings = [word for assignment in SMALL for word in ("--set", assignment)]
    run_together(config, bench, tmp_path / "out", "--methods", METHODS, *settings)
    assert tables(tmp_path / "out") == tables(plain)
    one, two = trained(plain), trained(tmp_path / "out")
    assert set(one) == set(two) == set(METHODS.split(","))
    far = {label: distance(one[label], two[label]) for label in one}
    assert max(far.values()) < CLOSE, far
    assert max(far.values()) > 0, "sums of another order must round differently, or nothing was shared"
    assert distance(one["lora"], one["ewc"]) > CLOSE, "a method's penalty changes more than is allowed here"
    log = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {cell["cost"]["processes"] for cell in log["cells"] if cell["method"] != "vanilla"} == {2}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full-ft"])
def test_fsdp_leaves_each_process_half_of_the_layers_and_all_of_the_rest(tiny_folder, method):
    (alone,) = measured(1, "none", tiny_folder, method)
    for each in measured(2, "fsdp", tiny_folder, method):
        assert each["rest"] == alone["rest"] > 0
        assert each["layers"] == pytest.approx(alone["layers"] / 2, rel=0.02)
        assert each["kept"] == 0


def measured(count: int, kind: str, folder: Path, method: str) -> list[dict[str, int]]:
    words = [Path(sys.executable).parent / "torchrun", "--standalone", "--nproc-per-node", count]
    words += [TESTS / "helpers" / "sharding_script.py", kind, folder, method]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH}
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr + done.stdout
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_stages_and_kills_change_nothing(bench, tmp_path, config):
    """Killed at two moments, a run still ends with the bytes of an undisturbed one."""
    words = ["--methods", "o-lora,ewc", "--stages", "2"]
    run_together(config, bench, tmp_path / "whole", *words)
    for _ in range(2):
        process = launch(config, bench, tmp_path / "out", *words)
        seen = states(tmp_path / "out")
        while process.poll() is None and states(tmp_path / "out") <= seen:
            time.sleep(0.05)
        for child in [*psutil.Process(process.pid).children(recursive=True), process]:
            child.send_signal(signal.SIGKILL)
        process.communicate()
    run_together(config, bench, tmp_path / "out", *words)
    assert tables(tmp_path / "out") == tables(tmp_path / "whole")
    assert adapters(tmp_path / "out") == adapters(tmp_path / "whole") != {}


AVERAGES = '''
import torch
from methods.lora import LoRA

class Averages(LoRA):
    """LoRA whose B is pulled towards a running mean of itself, which is the state of its step hook."""
    name = "averages"
    variants = {}

    def after_step(self, model, step, state):
        means = {}
        for name, parameter in model.module.named_parameters():
            if "lora_B" in name and parameter.requires_grad:
                means[name] = state.get(name, torch.zeros_like(parameter)).lerp(parameter, 0.5)
                parameter.lerp_(means[name], 0.5)
        return means

class Shakes(LoRA):
    """LoRA whose step hook differs between processes."""
    name = "shakes"
    variants = {}

    def after_step(self, model, step, state):
        for parameter in model.module.parameters():
            if parameter.requires_grad:
                parameter.mul_(1 + torch.rand(()))
        return state
'''


HOOKED, POOL = ("averages", "kore:projected-a"), "kore.calibration_samples=8"


@pytest.fixture(scope="module")
def alone(bench, tmp_path_factory) -> tuple[Path, Path]:
    """The file of the methods above, and a run of those that act after each step in one process."""
    folder = tmp_path_factory.mktemp("alone")
    plugin = folder / "averages.py"
    plugin.write_text(AVERAGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "METHODS", dict(base.METHODS))
        load_plugins([plugin])
        compare(Request(HOOKED, resolve(str(bench), [POOL]), folder / "out", (plugin,)))
    return plugin, folder / "out"


@pytest.mark.slow
@pytest.mark.parametrize("config", ["ddp", "fsdp"])
def test_after_each_step_all_processes_do_the_same_and_kills_change_nothing(bench, alone, tmp_path, config):
    plugin, in_one_process = alone
    words = ["--methods", ",".join(HOOKED), "--plugin", str(plugin), "--set", POOL]
    run_together(config, bench, tmp_path / "whole", *words)
    one, two = trained(in_one_process), trained(tmp_path / "whole")
    assert max(distance(one[row], two[row]) for row in HOOKED) < CLOSE
    process = launch(config, bench, tmp_path / "out", *words)
    while process.poll() is None and not list((tmp_path / "out").glob("store/training_checkpoint/*.manifest")):
        time.sleep(0.05)
    for child in [*psutil.Process(process.pid).children(recursive=True), process]:
        child.send_signal(signal.SIGKILL)
    process.communicate()
    run_together(config, bench, tmp_path / "out", *words)
    assert adapters(tmp_path / "out") == adapters(tmp_path / "whole") != {}
    log = run_together(config, bench, tmp_path / "shakes", "--methods", "shakes", "--plugin", str(plugin), code=1)
    assert "after_step of step 0" in log


def states(out: Path) -> int:
    """The progress of a run: changes whenever a checkpoint or a training is stored."""
    return sum(path.stat().st_mtime_ns for path in out.glob("store/training*/*.manifest"))


@pytest.mark.slow
def test_a_method_that_fails_in_one_process_is_a_failed_row(bench, tmp_path):
    plugin = tmp_path / "fails.py"
    plugin.write_text(FAILS)
    words = ["--methods", "fails-early,fails-late,lora", "--plugin", str(plugin)]
    log = run_together("ddp", bench, tmp_path / "out", *words, code=1)  # the launcher's own
    assert "another process failed: no luck here" in log
    assert "another process failed: step 1 failed" in log
    assert set(trained(tmp_path / "out")) == {"lora"}, "the next method was trained all the same"


@pytest.mark.slow
def test_settings_that_several_processes_cannot_follow_are_refused(bench, tmp_path):
    log = run_together("ddp", bench, tmp_path / "out", "--methods", "lora", "--workers", "2", code=1)
    assert "cells cannot be distributed over other processes" in log
    with pytest.raises(UserError, match="3 processes are asked for, but 1 were started"):
        compare(Request(("lora",), resolve(str(bench), ["processes=3"]), tmp_path / "out"))


def test_a_single_process_is_its_own_group():
    assert SINGLE_PROCESS.is_main_process
    assert SINGLE_PROCESS.broadcast_from_main(lambda: 3) == 3
    assert SINGLE_PROCESS.all_gather("x") == ["x"]
    assert SINGLE_PROCESS.all_reduce_sum([1.5, 2]) == [1.5, 2]
    assert process_group.init_process_group() is SINGLE_PROCESS
    with pytest.raises(ZeroDivisionError), SINGLE_PROCESS.synchronized(main_process_first=True):
        1 / 0  # noqa: B018


def test_out_of_memory_in_another_process_is_recognised():
    assert is_out_of_memory(PeerProcessError("no memory", out_of_memory=True))
    assert not is_out_of_memory(PeerProcessError("a bug"))
