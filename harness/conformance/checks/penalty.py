"""Checks of the penalty."""

from __future__ import annotations

import torch

from harness.conformance.registry import Inconclusive, NotApplicable, check, require
from harness.conformance.scenarios import Scenarios, diagnostics


def _penalty(seen: Scenarios) -> torch.Tensor:
    penalty = seen.begun.penalty
    if penalty is None:
        raise NotApplicable("it has no penalty")
    if not isinstance(penalty, torch.Tensor) or penalty.numel() != 1:
        raise Inconclusive("the penalty is no scalar")
    return penalty


@check(
    "penalty-scalar",
    reason="The penalty is added to the mean token loss.",
    hint="Return None, or a tensor without dimensions: a sum or a mean.",
)
def penalty_scalar(seen: Scenarios) -> None:
    """None or a tensor without dimensions."""
    penalty = seen.begun.penalty
    if penalty is None:
        raise NotApplicable("it has no penalty")
    require(isinstance(penalty, torch.Tensor), f"penalty gave a {type(penalty).__name__}")
    require(
        penalty.dim() == 0 and penalty.is_floating_point(), f"penalty gave a tensor of shape {tuple(penalty.shape)}"
    )


@check(
    "penalty-finite",
    reason="A penalty that is not a number ends the training at its first step.",
    hint="Mind divisions by zero, logarithms and square roots at the start, where B is zero.",
)
def penalty_finite(seen: Scenarios) -> None:
    """A finite number before the first step."""
    value = float(_penalty(seen).detach())
    require(torch.isfinite(torch.tensor(value)), f"penalty gave {value} before the first step")


@check(
    "penalty-leaves-model",
    reason="The penalty is asked for between forward and backward pass; what it changes would be trained on.",
    hint="Put back what you switch: adapters, requires_grad, training mode (methods.components.lora_layers.without_adapter does).",
)
def penalty_leaves_model(seen: Scenarios) -> None:
    """Weights, flags, parts, hooks and mode are as before."""
    effects = seen.begun.side_effects
    require(not effects, f"after asking for the penalty, {effects}")


@check(
    "coefficient-zero",
    reason="With its coefficient at zero a method must be LoRA, so that what it adds is all that differs.",
    hint="Where it is 0, return None from penalty, mix in no data, and draw no random numbers that LoRA does not.",
)
def coefficient_zero(seen: Scenarios) -> None:
    """The same losses as LoRA, bit for bit."""
    zero, lora, strays = seen.without_coefficient()
    require(not strays, f"at 0, {len(strays)} samples are not LoRA's, such as {strays[:1]}")
    for one, other in zip(diagnostics(zero), diagnostics(lora), strict=True):
        require(one == other, f"loss, penalty and gradient norm are {one}, LoRA's are {other}")
