"""An interrupted training continues as if it had not been interrupted (invariant I9)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.errors import UserError
from harness.training.loop import DivergenceError, LoggedStep
from helpers.paths import ROOT, TESTS
from helpers.toy_methods import Toy, ToySource, train, what_counts


class FolderCheckpoint:
    """The smallest implementation of the protocol; runs use that of ``harness.storage.store``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, tensors, state):
        self.folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, self.folder / "new.safetensors", {"state": json.dumps(state)})
        (self.folder / "new.safetensors").replace(self.folder / "now.safetensors")

    def load(self):
        from safetensors import safe_open

        path = self.folder / "now.safetensors"
        if not path.exists():
            return None
        with safe_open(path, "pt") as file:
            return load_file(path), json.loads(file.metadata()["state"])

    def discard(self):
        (self.folder / "now.safetensors").unlink(missing_ok=True)


class Stop(Exception):
    """Interrupts a training."""


def stop_after(step: int):
    def on_step(logged: LoggedStep) -> None:
        if logged.step == step:
            raise Stop

    return on_step


@pytest.mark.parametrize("last", [1, 4, 10])
def test_continuing_equals_never_stopping(tmp_path, last):
    torch.manual_seed(3)
    uninterrupted = Toy(dropout=0.3, penalty=0.1)
    reference = train(uninterrupted, micro_batch=3)

    torch.manual_seed(3)
    checkpoint = FolderCheckpoint(tmp_path)
    with pytest.raises(Stop):
        train(
            Toy(dropout=0.3, penalty=0.1), micro_batch=3, checkpoint=checkpoint, save_every=0, on_step=stop_after(last)
        )
    torch.manual_seed(99)  # the new process may have drawn numbers before
    toy = Toy(dropout=0.3, penalty=0.1)
    source = ToySource()
    log = train(toy, source, micro_batch=3, checkpoint=checkpoint, save_every=0)
    assert len(source.limits) == 12 - last, "only what was not saved is repeated"
    assert what_counts(log.steps) == what_counts(reference.steps)
    assert torch.equal(toy.parameters(), uninterrupted.parameters())


def test_without_the_optimiser_it_would_not_be_equal(tmp_path):
    """Positive control: the moments matter."""
    uninterrupted, toy, checkpoint = Toy(), Toy(), FolderCheckpoint(tmp_path)
    train(uninterrupted)
    with pytest.raises(Stop):
        train(Toy(), checkpoint=checkpoint, save_every=0, on_step=stop_after(6))
    tensors, state = checkpoint.load()
    checkpoint.save({k: t if k.startswith("value/") else torch.zeros_like(t) for k, t in tensors.items()}, state)
    train(toy, checkpoint=checkpoint)
    assert not torch.equal(toy.parameters(), uninterrupted.parameters())


def test_a_finished_training_is_not_repeated(tmp_path):
    checkpoint = FolderCheckpoint(tmp_path)
    first, again = Toy(), Toy()
    log = train(first, checkpoint=checkpoint)
    seen: list[LoggedStep] = []
    repeated = train(again, checkpoint=checkpoint, on_step=seen.append)
    assert seen == []
    assert repeated == log
    assert torch.equal(first.parameters(), again.parameters())


def test_a_halved_micro_batch_stays_halved(tmp_path):
    checkpoint = FolderCheckpoint(tmp_path)

    class LargeBatchesFail(Toy):
        def __call__(self, batch):
            if len(batch["x"]) > 4:
                raise torch.OutOfMemoryError("out of memory")
            return super().__call__(batch)

    with pytest.raises(Stop):
        train(LargeBatchesFail(), micro_batch=8, checkpoint=checkpoint, save_every=0, on_step=stop_after(2))
    source = ToySource()
    assert train(Toy(), source, micro_batch=8, checkpoint=checkpoint).micro_batch == 4
    assert set(source.limits) == {4}


def test_a_diverged_training_diverges_again_at_once(tmp_path):
    checkpoint = FolderCheckpoint(tmp_path)

    class Diverging(Toy):
        def __call__(self, batch):
            part = super().__call__(batch)
            return part if len(seen) < 5 else type(part)(part.loss_sum * float("nan"), part.tokens)

    seen: list[LoggedStep] = []
    for expected in (5, 5):
        with pytest.raises(DivergenceError):
            train(Diverging(), checkpoint=checkpoint, save_every=0, on_step=seen.append)
        assert len(seen) == expected


@pytest.mark.parametrize("change", ["name", "shape", "precision"])
def test_another_trainings_checkpoint_is_refused(tmp_path, change):
    checkpoint = FolderCheckpoint(tmp_path)
    train(Toy(), checkpoint=checkpoint)
    tensors, state = checkpoint.load()
    if change == "name":
        tensors = {key.replace("0.weight", "7.weight"): tensor for key, tensor in tensors.items()}
    elif change == "shape":
        tensors["value/0.weight"] = torch.zeros(8, 5)
    checkpoint.save(tensors, state)
    with pytest.raises(UserError, match="checkpoint"):
        train(Toy(), checkpoint=checkpoint, precision="bfloat16" if change == "precision" else "float32")


KILLED = """
import os, signal, sys
sys.path[:0] = {paths!r}
from pathlib import Path
from test_resume import FolderCheckpoint
from helpers.toy_methods import Toy, ToySource, train
import torch
torch.manual_seed(3)

def on_step(logged):
    if logged.step == 17:
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint = FolderCheckpoint(Path({folder!r}))
train(Toy(dropout=0.3), ToySource(steps=30), checkpoint=checkpoint, save_every=0, on_step=on_step)
"""


@pytest.mark.slow
def test_a_killed_process_continues_bit_for_bit(tmp_path):
    script = KILLED.format(paths=[str(ROOT), str(TESTS), str(Path(__file__).parent)], folder=str(tmp_path))
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert run.returncode == -signal.SIGKILL, run.stderr[-2000:]
    torch.manual_seed(3)
    uninterrupted = Toy(dropout=0.3)
    reference = train(uninterrupted, ToySource(steps=30))
    toy = Toy(dropout=0.3)
    log = train(toy, ToySource(steps=30), checkpoint=FolderCheckpoint(tmp_path))
    assert what_counts(log.steps) == what_counts(reference.steps)
    assert torch.equal(toy.parameters(), uninterrupted.parameters())
