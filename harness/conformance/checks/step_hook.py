"""Checks of what happens after each optimiser step."""

from __future__ import annotations

from harness.conformance.errors import NotApplicable
from harness.conformance.registry import check, require
from harness.conformance.scenarios import Scenarios
from harness.conformance.step_hook import StepHookState


@check(
    reason="The state is part of each checkpoint, which holds finite, dense tensors by name and never pickles.",
    hint="Return a dict of such tensors, each a copy: tensor.detach().clone().",
    training=True,
)
def check_step_state_tensors(scenarios: Scenarios) -> None:
    """``after_step`` returns finite, dense tensors by name that share no memory with the model."""
    state = _state(scenarios)
    require(not state.problem, f"after_step returned {state.problem}")
    require(
        not state.shared, f"{len(state.shared)} tensors of the state share memory with the model: {state.shared[:1]}"
    )


@check(
    reason="The optimiser holds the trained parameters, and everything else of the model is shared and frozen.",
    hint="Write into the trained parameters with copy_, mul_ or clamp_; replace none, and restore flags and mode.",
    training=True,
)
def check_step_hook_keeps_model(scenarios: Scenarios) -> None:
    """``after_step`` changes nothing in the model but values of trained parameters, in place."""
    side_effect = _state(scenarios).side_effect
    require(not side_effect, f"after after_step, {side_effect}")


@check(
    reason="Each process calls the hook by itself, and a resumed training calls that of a new instance.",
    hint="Depend on model, step and state alone: no global random numbers, nothing kept on self between calls.",
    training=True,
)
def check_step_hook_deterministic(scenarios: Scenarios) -> None:
    """Two instances do the same after the same steps, whatever the global random numbers are."""
    names = _state(scenarios).differing
    require(not names, f"{len(names)} tensors differ between two instances, such as {names[:1]}")


def _state(scenarios: Scenarios) -> StepHookState:
    _ = scenarios.attach_state
    if not scenarios.lifecycle.method.acts_after_step:
        raise NotApplicable("it does nothing after a step")
    return scenarios.step_hook_state
