"""Checks of the penalty."""

from __future__ import annotations

import math

import torch

from harness.conformance.errors import Inconclusive, NotApplicable
from harness.conformance.registry import check, require
from harness.conformance.scenarios import Scenarios, loss_values


@check(
    reason="The penalty is added to the mean token loss.",
    hint="Return None or a scalar tensor: a sum or a mean.",
    training=True,
)
def check_penalty_scalar(scenarios: Scenarios) -> None:
    """The penalty is None or a floating-point tensor without dimensions."""
    penalty = scenarios.attach_state.penalty
    if penalty is None:
        raise NotApplicable("it has no penalty")
    require(isinstance(penalty, torch.Tensor), f"penalty returned a {type(penalty).__name__}")
    scalar = penalty.dim() == 0 and penalty.is_floating_point()
    require(scalar, f"penalty returned a tensor of shape {tuple(penalty.shape)}")


@check(
    reason="A penalty that is not finite ends the training at its first step.",
    hint="Guard divisions, logarithms and square roots: at the start B is zero.",
    training=True,
)
def check_penalty_finite(scenarios: Scenarios) -> None:
    """The penalty is finite before the first step."""
    penalty = scenarios.attach_state.penalty
    if penalty is None:
        raise NotApplicable("it has no penalty")
    if not isinstance(penalty, torch.Tensor) or penalty.numel() != 1:
        raise Inconclusive("the penalty is not a scalar")
    value = float(penalty.detach())
    require(math.isfinite(value), f"penalty returned {value} before the first step")


@check(
    reason="The penalty is computed between forward and backward pass; a change of the model would be trained on.",
    hint="Restore adapters, requires_grad and training mode (methods.components.lora_layers.without_adapter does).",
    training=True,
)
def check_penalty_keeps_model(scenarios: Scenarios) -> None:
    """Computing the penalty leaves weights, flags, modules, hooks and mode as they were."""
    side_effect = scenarios.attach_state.penalty_side_effect
    require(not side_effect, f"after computing the penalty, {side_effect}")


@check(
    reason="With its coefficient at zero a method must be LoRA, so that the difference is what the method adds.",
    hint="At 0, return None from penalty, mix in no data, and draw no random numbers that LoRA does not draw.",
    training=True,
)
def check_coefficient_zero_is_lora(scenarios: Scenarios) -> None:
    """With the coefficient at zero, the losses are LoRA's, bit for bit."""
    steps, lora_steps, extra = scenarios.compare_with_lora()
    require(not extra, f"at 0, {len(extra)} samples are not LoRA's, such as {extra[:1]}")
    for values, expected in zip(loss_values(steps), loss_values(lora_steps), strict=True):
        require(values == expected, f"loss, penalty and gradient norm are {values}, LoRA's are {expected}")
