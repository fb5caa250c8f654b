"""Checks of the loss."""

from __future__ import annotations

import math
from typing import Any

from harness.conformance.errors import Inconclusive
from harness.conformance.registry import check, require
from harness.conformance.scenarios import Scenarios
from harness.training.hook_checks import loss_problem

TOLERANCE = 1e-3
"""Relative difference that rounding can explain."""


@check(
    reason="A step divides the sum of all its token losses by the number of all its tokens.",
    hint="Return (sum, tokens): a scalar tensor, and a number that is not a tensor, such as len(targets).",
    training=True,
)
def check_loss_sum_and_tokens(scenarios: Scenarios) -> None:
    """The loss is a finite scalar and a number of tokens."""
    returned = scenarios.attach_state.loss.together
    problem = loss_problem(returned)
    require(not problem, f"loss returned {problem}")
    value, _ = _values(returned)
    require(math.isfinite(value), f"loss returned {value} before the first step")


@check(
    reason="A step is cut into micro-batches and shared by processes; some get no supervised token.",
    hint="Sum over the tokens and return their number: no mean, no statistics over a batch, (0, 0) without a token.",
    training=True,
)
def check_loss_adds_up(scenarios: Scenarios) -> None:
    """Rows together have the sum and the tokens of single rows; a row without supervised tokens has none."""
    state = scenarios.attach_state.loss
    if any(map(loss_problem, (state.together, *state.single, state.unsupervised))):
        raise Inconclusive("the loss is not a sum and a number of tokens")
    together, single, empty = _values(state.together), list(map(_values, state.single)), _values(state.unsupervised)
    for name, value, parts in zip(("sum", "number of tokens"), together, zip(*single, strict=True), strict=True):
        close = math.isclose(value, sum(parts), rel_tol=TOLERANCE, abs_tol=1e-6)
        require(close, f"the {name} of {len(parts)} rows is {value:.6g} together and {sum(parts):.6g} one by one")
    require(empty == (0.0, 0.0), f"without a supervised token, sum and number of tokens are {empty}")


@check(
    reason="The loss is computed between forward and backward pass; a change of the model would be trained on.",
    hint="Restore adapters, requires_grad and training mode (methods.components.lora_layers.without_adapter does).",
    training=True,
)
def check_loss_keeps_model(scenarios: Scenarios) -> None:
    """Computing the loss leaves weights, flags, modules, hooks and mode as they were."""
    side_effect = scenarios.attach_state.loss.side_effect
    require(not side_effect, f"after computing the loss, {side_effect}")


def _values(returned: Any) -> tuple[float, float]:
    loss, tokens = returned
    return float(loss.detach()), float(tokens)
