"""Checks of the training: what must change, and what must not matter."""

from __future__ import annotations

import statistics

from harness.conformance.registry import check, require
from harness.conformance.scenarios import FEW_STEPS, Scenarios, loss_values
from harness.training.loop import LoggedStep

TOLERANCE = 1e-3
"""Relative difference that rounding can explain."""


@check(
    reason="A method must be able to learn its training data.",
    hint="Check the learning rates in parameter_groups, whether the penalty outweighs the loss, and detached graphs.",
    training=True,
)
def check_loss_decreases(scenarios: Scenarios) -> None:
    """The loss of the last epoch is below that of the first, at the rate of the other checks or at a tenth of it."""
    first, last = _first_and_last(scenarios.train_state.steps)
    if last >= first:  # a high rate alone is no fault: how high is too high depends on the model
        first, last = _first_and_last(scenarios.slower_steps)
    require(last < first, f"from the first epoch to the last the loss goes from {first:.4f} to {last:.4f}")


def _first_and_last(steps: list[LoggedStep]) -> tuple[float, float]:
    losses = [step.loss for step in steps]
    return statistics.mean(losses[:2]), statistics.mean(losses[-2:])


@check(
    reason="Parameters that count as trained, also in the memory they cost, must be trained.",
    hint="Freeze parameters that do not contribute to the loss, or fix the graph that leads to them.",
    training=True,
)
def check_trained_parameters_change(scenarios: Scenarios) -> None:
    """Training changes each parameter in the groups."""
    names = scenarios.train_state.unchanged
    require(not names, f"{len(names)} parameters are in a group and do not change, such as {names[:1]}")


@check(
    reason="Everything that is not declared as trained is shared with other methods.",
    hint="Do not change a weight or buffer outside the groups; libraries may switch on training of others.",
    training=True,
)
def check_frozen_weights_unchanged(scenarios: Scenarios) -> None:
    """Training leaves all other weights and buffers bit for bit as they were."""
    names = scenarios.train_state.changed
    require(not names, f"{len(names)} weights change without being in a group, such as {names[:1]}")


@check(
    reason="Results must be reproducible.",
    hint="Draw random numbers from torch's seeded generator or from resources.seed; do not iterate over sets.",
    training=True,
)
def check_same_seed(scenarios: Scenarios) -> None:
    """Two trainings with the same seed have the same losses, bit for bit."""
    again = scenarios.resumed_run.killed_steps
    first = scenarios.train_state.steps[: len(again)]
    require(scenarios.is_repeatable, f"losses were {_losses(first)} and then {_losses(again)}")


@check(
    reason="The micro-batch size depends on the memory of the machine and must not change what is learned.",
    hint="Return from loss a sum over tokens, from penalty a mean or a function of the parameters; keep no counter.",
    training=True,
)
def check_gradient_accumulation(scenarios: Scenarios) -> None:
    """One batch of four rows equals four batches of one row, penalty included."""
    _require_close(scenarios.train_state.steps[:FEW_STEPS], scenarios.single_row_steps, "with single rows")


@check(
    reason="Large models recompute activations in the backward pass, which must not change what is learned.",
    hint="Do not accumulate in a forward hook what a second forward pass in the same step would add again.",
    training=True,
)
def check_gradient_checkpointing(scenarios: Scenarios) -> None:
    """Gradient checkpointing changes nothing."""
    steps = scenarios.train_state.steps[:FEW_STEPS]
    _require_close(steps, scenarios.checkpointed_steps, "with gradient checkpointing")


@check(
    reason="The padding of a row depends on the other rows of its batch and must not matter.",
    hint="Respect attention_mask and the label -100 in all code that reads the batch.",
)
def check_padding_amount(scenarios: Scenarios) -> None:
    """More padding on the right leaves loss and penalty as they are."""
    _require_same_measure(scenarios, "wider")


@check(
    reason="Training pads on the right, generation on the left.",
    hint="Take positions from attention_mask and labels, not from the column.",
)
def check_padding_side(scenarios: Scenarios) -> None:
    """Padding on the left leaves loss and penalty as they are."""
    _require_same_measure(scenarios, "left")


@check(
    reason="Answers must not depend on which questions share a batch.",
    hint="Compute no statistics over the batch in the forward pass; route each row independently.",
)
def check_batch_invariance(scenarios: Scenarios) -> None:
    """A row has the same logits alone and in a batch."""
    state = scenarios.train_state
    gap = float((state.logits - state.single_row_logits).abs().max())
    require(gap <= 1e-3, f"alone, a row's logits differ by up to {gap:.3g} from those in a batch")


@check(
    reason="An interrupted run resumes from its last checkpoint and must end as if it had not been interrupted.",
    hint="Keep state in parameters or derive it in attach; an instance that resumes has not seen the earlier steps.",
    training=True,
)
def check_resume(scenarios: Scenarios) -> None:
    """Killed halfway and resumed, the training ends the same, bit for bit."""
    resumed, steps = scenarios.resumed_run.steps, scenarios.train_state.steps
    require(len(resumed) == len(steps), f"it ends after {len(resumed)} steps")
    scenarios.require_repeatable()
    for expected, step in zip(steps, resumed, strict=True):
        equal = loss_values([expected]) == loss_values([step])
        require(equal, f"at step {step.step} loss and penalty are {_losses([step])} instead of {_losses([expected])}")


@check(
    reason="A training takes thousands of steps.",
    hint="Release what hooks and penalty keep: detach what you store, and overwrite the previous value.",
    slow=True,
    training=True,
)
def check_memory_constant(scenarios: Scenarios) -> None:
    """After 50 steps no more tensors are in memory than after 10."""
    early, late = scenarios.count_live_tensors((10, 50))
    require(late <= early, f"{early} tensors are in memory after 10 steps and {late} after 50")


def _losses(steps: list[LoggedStep]) -> str:
    return ", ".join(f"{loss:.6f} + {penalty:.3g}" for loss, penalty, _ in loss_values(steps))


def _require_close(expected: list[LoggedStep], steps: list[LoggedStep], how: str) -> None:
    for number, (was, now) in enumerate(zip(loss_values(expected), loss_values(steps), strict=True)):
        for name, before, after in zip(("loss", "penalty", "gradient norm"), was, now, strict=True):
            require(_close(before, after), f"{how}, the {name} of step {number} is {after:.6g}, not {before:.6g}")


def _require_same_measure(scenarios: Scenarios, how: str) -> None:
    measured = scenarios.train_state.measured
    for name, before, after in zip(("loss", "penalty"), measured["plain"], measured[how], strict=True):
        require(_close(before, after), f"the {name} goes from {before:.6g} to {after:.6g}")


def _close(expected: float, value: float) -> bool:
    return abs(expected - value) <= TOLERANCE * abs(expected) + 1e-6
