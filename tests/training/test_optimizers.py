"""AdamW in 8 bits: real trainings with bitsandbytes on the CPU, continued bit for bit.

bitsandbytes is an optional extra (``pip install 'knowledge-injection-harness[bitsandbytes]'``); the trainings are
skipped if it is not installed. Install it to change ``harness/training/optimizers.py``.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from benchmarks.errors import UserError
from harness.commands.doctor import examine
from harness.config import extras
from harness.config.extras import check_extras, libraries_of
from harness.config.schema import TrainingSettings
from harness.config.settings import resolve
from harness.storage.store import Store
from harness.training.loop import StepLoss, fit
from harness.training.optimizers import build_adamw

EXTRA = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="an optional extra: pip install '.[bitsandbytes]'")
CPU = torch.device("cpu")
STEPS = 8


class Stop(Exception):
    """Interrupts a training."""


class Wide:
    """A layer with enough values for 8 bits, and a bias with too few."""

    steps = STEPS

    def __init__(self) -> None:
        torch.manual_seed(3)
        self.net = torch.nn.Linear(64, 96)
        self.dropout = torch.nn.Dropout(0.2)

    def micro_batches(self, step, limit):
        x = torch.randn(16, 64, generator=torch.Generator().manual_seed(step))
        return [{"x": part, "y": part.roll(1, 1).repeat(1, 2)[:, :96]} for part in x.split(limit)]

    def __call__(self, batch):
        loss = (self.net(self.dropout(batch["x"])) - batch["y"]).square().mean(-1).sum()
        return StepLoss(loss, len(batch["x"]))

    def train(self, optimizer, **extra):
        names = ["net.weight", "net.bias"]
        group = {"params": [self.net.weight, self.net.bias], "names": names, "lr": 1e-2, "weight_decay": 0.01}
        settings = TrainingSettings(optimizer=optimizer, micro_batch=8, save_every=0, clip_norm=100.0)
        return fit(self, self, [group], settings, device=CPU, precision="float32", **extra)


def losses(log):
    return [(step.loss, step.grad_norm) for step in log.steps]


def stopped_after(step, checkpoint):
    def on_step(logged):
        if logged.step == step:
            raise Stop

    with pytest.raises(Stop):
        Wide().train("adamw-8bit", checkpoint=checkpoint, on_step=on_step)


@EXTRA
@pytest.mark.slow
@pytest.mark.parametrize("last", [0, 3])
def test_continuing_equals_never_stopping(tmp_path, last):
    whole = Wide()
    reference = whole.train("adamw-8bit")
    checkpoint = Store(tmp_path).checkpoint("training", {"of": "test"})
    stopped_after(last + 1, checkpoint)
    torch.manual_seed(99)
    again = Wide()
    assert losses(again.train("adamw-8bit", checkpoint=checkpoint)) == losses(reference)
    assert torch.equal(again.net.weight, whole.net.weight)
    assert torch.equal(again.net.bias, whole.net.bias)


@EXTRA
@pytest.mark.slow
@pytest.mark.parametrize("lost", ["state1/", "absmax2/", "number:step/"])
def test_each_part_of_the_state_matters(tmp_path, lost):
    """Positive control: with a part of the state lost, the training goes another way."""
    reference, checkpoint = Wide().train("adamw-8bit"), Store(tmp_path).checkpoint("training", {"of": "test"})
    stopped_after(4, checkpoint)
    tensors, state = checkpoint.load()
    assert any(key.startswith(lost) for key in tensors)
    checkpoint.save({k: torch.zeros_like(t) if k.startswith(lost) else t for k, t in tensors.items()}, state)
    assert losses(Wide().train("adamw-8bit", checkpoint=checkpoint)) != losses(reference)


@EXTRA
@pytest.mark.slow
def test_the_moments_take_a_quarter_and_the_updates_are_close():
    def moments(optimizer):
        toy = Wide()
        group = {"params": [toy.net.weight], "names": ["weight"], "lr": 1e-2, "weight_decay": 0.01}
        built = build_adamw([group], TrainingSettings(optimizer=optimizer))
        start = toy.net.weight.detach().clone()
        for step in range(20):
            toy.net.weight.grad = torch.randn(96, 64, generator=torch.Generator().manual_seed(step)) + 0.2
            built.step()
        state = built.state[toy.net.weight]
        kept = [value for key, value in state.items() if key[:3] in ("exp", "sta", "abs")]
        return sum(value.numel() * value.element_size() for value in kept), toy.net.weight.detach() - start

    (full, exact), (eight, close) = moments("adamw"), moments("adamw-8bit")
    assert eight == pytest.approx(full / 4, rel=0.02)
    assert float((close - exact).norm()) < 0.1 * float(exact.norm())
    assert not torch.equal(close, exact), "control: it is another optimiser"


def test_without_the_library_it_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    find = extras.importlib.util.find_spec
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    for assignment in ("training.optimizer=adamw-8bit", "precision=nf4"):
        settings = resolve("mini", [assignment]).settings
        with pytest.raises(UserError, match=r"(?s)needs bitsandbytes.*pip install .*\[bitsandbytes\]") as error:
            check_extras(settings, [{}])
        assert error.value.location == assignment
    lines = {line.what: line for line in examine(tmp_path, "mini", None, ["precision=nf4"])}["precision=nf4"]
    assert lines.state == "missing"
    assert "pip install" in lines.hint
    usual = resolve("mini").settings
    check_extras(usual, [{}])
    with pytest.raises(UserError, match="needs bitsandbytes"):
        check_extras(usual, [{}, {"optimizer": "adamw-8bit"}])


@pytest.mark.parametrize("assignment", ["training.optimizer=adamw-8bit", "precision=nf4"])
def test_sharding_is_refused(monkeypatch, assignment):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: object())
    check_extras(resolve("mini", [assignment]).settings, [{}])
    with pytest.raises(UserError, match="does not work with sharding=fsdp"):
        check_extras(resolve("mini", [assignment, "sharding=fsdp"]).settings, [{}])


def test_results_of_another_version_are_not_reused():
    assert libraries_of("nf4", {}) == libraries_of("float32", {"optimizer": "adamw-8bit"}) == ("bitsandbytes",)
    assert libraries_of("float32", {"optimizer": "adamw"}) == ()
