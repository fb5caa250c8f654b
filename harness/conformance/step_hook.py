"""What a method's ``after_step`` does: two instances, each on a model of its own, after the same changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from harness.conformance.errors import hook_errors
from harness.conformance.snapshot import Snapshot, changed_tensors, copies, snapshot
from harness.training.hook_checks import tensor_problem

if TYPE_CHECKING:
    from harness.conformance.lifecycle import MethodLifecycle

CALLS = 2
"""Times that each instance is called: the second time with the state of the first."""
CHANGE = 1e-2
"""Standard deviation of the random change of the trained parameters that stands for an optimiser step."""


@dataclass(frozen=True)
class StepHookState:
    """What ``after_step`` returned and changed.

    Attributes:
        problem: Why what it returned cannot be stored; "" if it can.
        shared: Tensors of the state that share memory with the model.
        side_effect: What it changed in the model besides values of trained parameters; "" for nothing.
        differing: Parameters and tensors of the state that differ between the two instances.
    """

    problem: str
    shared: list[str]
    side_effect: str
    differing: list[str]


def step_hook_state(start: Callable[[], MethodLifecycle]) -> StepHookState:
    """Call ``after_step`` of two new instances.

    Args:
        start: Gives a new instance on a new model, ready to train.
    """
    first, problem, shared, side_effect = _call(start(), seed=0)
    if problem:
        return StepHookState(problem, shared, side_effect, [])
    second, problem, *_ = _call(start(), seed=1)
    return StepHookState(problem, shared, side_effect, changed_tensors(first, second))


def _call(lifecycle: MethodLifecycle, seed: int) -> tuple[dict[str, torch.Tensor], str, list[str], str]:
    """The parameters and the state after the calls, and what was wrong; ``seed`` is of the global generator."""
    module, trained = lifecycle.model.module, lifecycle.trained_parameters()
    module.train()
    state: Any = {}
    draw = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for step in range(CALLS):
            for parameter in trained.values():
                parameter.add_(CHANGE * torch.randn(parameter.shape, generator=draw).to(parameter))
            torch.manual_seed(seed)
            before, places = snapshot(module), _places(trained)
            with hook_errors("after_step"):
                state = lifecycle.method.after_step(lifecycle.model, step, state)
            if problem := tensor_problem(state):
                return {}, problem, [], ""
            side_effect = _side_effect(lifecycle, before, trained, places)
            if side_effect:
                break
    memory = {tensor.untyped_storage().data_ptr() for tensor in module.state_dict().values()}
    shared = [name for name, tensor in state.items() if tensor.untyped_storage().data_ptr() in memory]
    values = {f"state {name}": tensor for name, tensor in copies(state).items()}
    return {**copies(trained), **values}, "", shared, side_effect


def _places(trained: dict[str, torch.nn.Parameter]) -> dict[str, tuple[int, int]]:
    """Which object each parameter is, and where its values are."""
    return {name: (id(parameter), parameter.data_ptr()) for name, parameter in trained.items()}


def _side_effect(
    lifecycle: MethodLifecycle,
    before: Snapshot,
    trained: dict[str, torch.nn.Parameter],
    places: dict[str, tuple[int, int]],
) -> str:
    module = lifecycle.model.module
    if not module.training:
        return "the model was in training mode and is in eval mode"
    after = snapshot(module)
    values = {name: after.weights.get(name, value) for name, value in before.weights.items() if name in trained}
    difference = Snapshot(before.weights | values, before.requires_grad, before.modules, before.hooks).difference(after)
    moved = [name for name, place in _places(lifecycle.trained_parameters()).items() if places.get(name) != place]
    return difference or (f"{len(moved)} parameters were replaced, such as {moved[0]}" if moved else "")
