"""The step hook: called after each step, its state part of the checkpoint, refused where its changes would be lost."""

from __future__ import annotations

import types

import pytest
import torch

from benchmarks.errors import UserError
from harness.config.schema import TrainingSettings
from harness.distributed.process_group import SINGLE_PROCESS
from harness.training.loop import LoggedStep, fit
from harness.training.step_hook import PREFIX, StepHook, check_step_hook, check_step_hook_inputs, make_step_hook
from harness.training.strategies.factory import training_strategy
from helpers.plain_loop import make
from helpers.toy_methods import CPU, Toy, ToySource, what_counts
from methods.lora import LoRA

MODEL = types.SimpleNamespace(device=CPU)


class Memory:
    """A checkpoint in memory."""

    saved = None

    def save(self, tensors, state):
        self.saved = {name: tensor.clone() for name, tensor in tensors.items()}, state

    def load(self):
        return self.saved


class Averaging:
    """Pulls each parameter towards the running mean of itself, which it keeps as its state."""

    acts_after_step = True

    def __init__(self, toy: Toy, returned=None) -> None:
        self.toy, self.returned, self.steps = toy, returned, []

    def after_step(self, model, step, state):
        self.steps.append(step)
        means = {}
        for name, parameter in self.toy.net.named_parameters():
            means[name] = state.get(name, torch.zeros_like(parameter)).lerp(parameter, 0.5)
            parameter.lerp_(means[name], 0.3)
        return means if self.returned is None else self.returned


class Stop(Exception):
    """Interrupts a training."""


def train(toy, method, checkpoint=None, last=None):
    def on_step(logged: LoggedStep) -> None:
        if logged.step == last:
            raise Stop

    settings = TrainingSettings(save_every=0, micro_batch=8)
    options = {"device": CPU, "precision": "float32", "checkpoint": checkpoint, "on_step": on_step}
    return fit(ToySource(), toy, toy.groups(), settings, **options, after_step=method and StepHook(MODEL, method))


def interrupted(forget: bool = False):
    """A training that is stopped and continued by new instances."""
    checkpoint, toy = Memory(), Toy()
    with pytest.raises(Stop):
        train(toy, Averaging(toy), checkpoint, last=5)
    tensors, state = checkpoint.saved
    assert {f"{PREFIX}{name}" for name, _ in toy.net.named_parameters()} <= tensors.keys()
    if forget:
        checkpoint.save({name: each for name, each in tensors.items() if not name.startswith(PREFIX)}, state)
    toy = Toy()
    method = Averaging(toy)
    log = train(toy, method, checkpoint)
    assert method.steps == list(range(5, 12)), "the step that was not saved is repeated"
    return toy, log


def test_its_state_is_saved_and_restored_with_the_checkpoint():
    whole = Toy()
    method = Averaging(whole)
    log = train(whole, method)
    assert method.steps == list(range(12))
    toy, resumed = interrupted()
    assert what_counts(resumed.steps) == what_counts(log.steps)
    assert torch.equal(toy.parameters(), whole.parameters())
    assert not torch.equal(interrupted(forget=True)[0].parameters(), whole.parameters()), "control: the state matters"
    plain = Toy()
    train(plain, None)
    assert not torch.equal(plain.parameters(), whole.parameters()), "control: the hook matters"


def test_a_checkpoint_with_a_state_is_refused_by_a_training_without_the_hook():
    checkpoint, toy = Memory(), Toy()
    train(toy, Averaging(toy), checkpoint)
    checkpoint.saved[1]["log"]["steps"].pop()
    with pytest.raises(UserError, match="another training"):
        train(Toy(), None, checkpoint)


@pytest.mark.parametrize("returned", [[1.0], {"mean": 1.0}, {"mean": torch.tensor(float("nan"))}])
def test_what_cannot_be_saved_is_refused(returned):
    toy = Toy()
    with pytest.raises(UserError, match="after_step gave"):
        train(toy, Averaging(toy, returned))


class Stepping(LoRA, register=False):
    """LoRA with a step hook."""

    def after_step(self, model, step, state):
        return state


def test_it_is_refused_where_a_change_would_be_lost():
    method = Stepping(Stepping.Settings())
    for sharding in ("zero2", "zero3"):
        strategy = training_strategy(sharding, SINGLE_PROCESS)
        for each in (method, make("kore:projected-a")):
            with pytest.raises(UserError, match="optimiser keeps copies"):
                check_step_hook(each, strategy, "row")
        for plain in ("lora", "kore", "kore:unfrozen-a"):
            check_step_hook(make(plain), strategy, "row")  # control
            assert make_step_hook(MODEL, make(plain)) is None
    for sharding in ("none", "fsdp"):
        check_step_hook(method, training_strategy(sharding, SINGLE_PROCESS), "row")
    weight, other = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    strategy = types.SimpleNamespace(sharded_parameters={weight})
    with pytest.raises(UserError, match="only a shard"):
        check_step_hook_inputs(method, [{"params": [weight]}], strategy, "row")
    check_step_hook_inputs(method, [{"params": [other]}], strategy, "row")
    check_step_hook_inputs(make("lora"), [{"params": [weight]}], strategy, "row")
