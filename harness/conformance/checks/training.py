"""Checks of the training: what moves, what must not matter."""

from __future__ import annotations

import statistics

from harness.conformance.registry import check, require
from harness.conformance.scenarios import FEW, Scenarios, diagnostics
from harness.training.loop import LoggedStep

NEAR = 1e-3
"""Relative difference that rounding can explain."""


@check(
    "loss-falls",
    reason="A method must be able to learn what it is shown.",
    hint="Look at the learning rates in parameter_groups, at a penalty that drowns the loss, and at detached graphs.",
)
def loss_falls(seen: Scenarios) -> None:
    """The last epoch's loss is below the first's."""
    losses = [step.loss for step in seen.fitted.steps]
    first, last = statistics.mean(losses[:2]), statistics.mean(losses[-2:])
    require(last < first, f"from the first pass to the last the loss goes from {first:.4f} to {last:.4f}")


@check(
    "all-train",
    reason="What counts as trained, in parameters and memory, must be trained.",
    hint="Freeze what has no part in the loss, or mend the graph that leads to it.",
)
def all_train(seen: Scenarios) -> None:
    """Each declared parameter changes."""
    still = seen.fitted.unchanged
    require(not still, f"{len(still)} parameters are declared and do not change, such as {still[:1]}")


@check(
    "frozen-stays",
    reason="What is not declared as trained is shared with other methods.",
    hint="Change no weight or buffer outside the groups; mind what a library switches on behind your back.",
)
def frozen_stays(seen: Scenarios) -> None:
    """Everything else is bit for bit what it was."""
    moved = seen.fitted.moved
    require(not moved, f"{len(moved)} weights change without being declared, such as {moved[:1]}")


@check(
    "same-seed",
    reason="A result must be repeatable.",
    hint="Draw random numbers from torch's seeded generator or from resources.seed; iterate over no set.",
)
def same_seed(seen: Scenarios) -> None:
    """Two trainings with the same seed have the same losses, bit for bit."""
    again = seen.resumed[1]
    first = seen.fitted.steps[: len(again)]
    require(seen.repeatable, f"losses were {_losses(first)} and then {_losses(again)}")


@check(
    "accumulation",
    reason="How a step is cut into micro-batches depends on the machine's memory, and must not change what is learnt.",
    hint="Return from penalty a mean over tokens, or a function of the parameters alone: no sum, no count of calls.",
)
def accumulation(seen: Scenarios) -> None:
    """One batch of four is four batches of one, penalty included."""
    _near(seen.fitted.steps[:FEW], seen.cut, "cut into single rows")


@check(
    "gradient-checkpointing",
    reason="Large models recompute activations in the backward pass, which must not change what is learnt.",
    hint="Keep nothing in a forward hook that a second forward pass in the same step would add to.",
)
def gradient_checkpointing(seen: Scenarios) -> None:
    """Recomputed activations change nothing."""
    _near(seen.fitted.steps[:FEW], seen.checkpointed, "with gradient checkpointing")


@check(
    "padding-amount",
    reason="How far a row is padded depends on its neighbours, and must not matter.",
    hint="Mind attention_mask and the label -100 in whatever reads the batch.",
)
def padding_amount(seen: Scenarios) -> None:
    """More padding on the right leaves loss and penalty as they are."""
    _same_measure(seen, "wider")


@check(
    "padding-side",
    reason="Training pads on the right and answering on the left.",
    hint="Take positions from attention_mask and labels, not from the column.",
)
def padding_side(seen: Scenarios) -> None:
    """Padding on the left leaves loss and penalty as they are."""
    _same_measure(seen, "left")


@check(
    "rows-independent",
    reason="Answers must not depend on which questions share a batch.",
    hint="Take no statistics over the batch in the forward pass; route each row by itself.",
)
def rows_independent(seen: Scenarios) -> None:
    """A row alone has the logits that it has in a batch."""
    fitted = seen.fitted
    gap = float((fitted.logits - fitted.rows_alone).abs().max())
    require(gap <= 1e-3, f"alone, a row's logits differ by up to {gap:.3g} from those in a batch")


@check(
    "resume",
    reason="A run that was killed goes on from its last checkpoint and must end as if nothing had happened.",
    hint="Keep state in parameters or derive it in attach; an instance that resumes has seen no earlier step.",
)
def resume(seen: Scenarios) -> None:
    """Killed at half and resumed, the training ends the same, bit for bit."""
    _, _, whole = seen.resumed
    require(len(whole) == len(seen.fitted.steps), f"it ends after {len(whole)} steps")
    seen.comparable()
    _exactly(seen.fitted.steps, whole)


@check(
    "memory-steady",
    reason="A training takes thousands of steps.",
    hint="Let go of what hooks and penalty keep: detach what you store, and store it in place of the last.",
    slow=True,
)
def memory_steady(seen: Scenarios) -> None:
    """After 50 steps as many tensors are alive as after 10."""
    early, late = seen.tensors_alive((10, 50))
    require(late <= early, f"{early} tensors are alive after 10 steps and {late} after 50")


def _losses(steps: list[LoggedStep]) -> str:
    return ", ".join(f"{loss:.6f} + {penalty:.3g}" for loss, penalty, _ in diagnostics(steps))


def _exactly(wanted: list[LoggedStep], found: list[LoggedStep]) -> None:
    for one, other in zip(wanted, found, strict=True):
        same = diagnostics([one]) == diagnostics([other])
        require(same, f"at step {one.step} loss and penalty are {_losses([other])} instead of {_losses([one])}")


def _near(wanted: list[LoggedStep], found: list[LoggedStep], how: str) -> None:
    for step, (one, other) in enumerate(zip(diagnostics(wanted), diagnostics(found), strict=True)):
        for name, was, now in zip(("loss", "penalty", "gradient norm"), one, other, strict=True):
            require(
                abs(was - now) <= NEAR * abs(was) + 1e-6,
                f"{how}, the {name} of step {step} is {now:.6g}, not {was:.6g}",
            )


def _same_measure(seen: Scenarios, how: str) -> None:
    measured = seen.fitted.measured
    for name, was, now in zip(("loss", "penalty"), measured["plain"], measured[how], strict=True):
        require(abs(was - now) <= NEAR * abs(was) + 1e-6, f"the {name} goes from {was:.6g} to {now:.6g}")
