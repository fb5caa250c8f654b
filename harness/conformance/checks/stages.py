"""Checks of training in several stages."""

from __future__ import annotations

from harness.conformance.errors import Inconclusive
from harness.conformance.registry import check, require
from harness.conformance.scenarios import Scenarios
from harness.training.hook_checks import tensor_problem

TOLERANCE = 1e-5
"""Largest difference of logits that counts as none."""


@check(
    reason="Each stage starts where the previous one ended.",
    hint="In load_previous_stage, load what the previous stage exported (methods.components.lora_layers.load_adapter).",
    training=True,
)
def check_load_previous_stage(scenarios: Scenarios) -> None:
    """The second stage starts with the logits that the first ended with."""
    gap = float((scenarios.second_stage.start_logits - scenarios.train_state.logits).abs().max())
    require(gap <= 1e-4, f"the second stage starts with logits that differ by up to {gap:.3g}")


@check(
    reason="The export of the last stage gives the answers, so it must contain what all stages learned.",
    hint="Export and restore what earlier stages left, too, such as a frozen second adapter.",
)
def check_restore_second_stage(scenarios: Scenarios) -> None:
    """Restored in a new model, the second stage's adapter gives the second stage's logits."""
    second = scenarios.second_stage
    if float((scenarios.restore_state.logits - scenarios.train_state.logits).abs().max()) > TOLERANCE:
        raise Inconclusive("restore does not even reproduce a single stage")
    require(second.restored_logits is not None, f"the second stage's export cannot be restored: {second.restore_error}")
    if second.restored_logits is not None:
        gap = float((second.restored_logits - second.end_logits).abs().max())
        require(gap <= TOLERANCE, f"restored, logits differ by up to {gap:.3g} from the second stage's")


@check(
    reason="The adapter is exported before the stage state; both must belong to the same model.",
    hint="Only read in export_stage_state, or restore what it changes.",
)
def check_export_stage_state_keeps_model(scenarios: Scenarios) -> None:
    """``export_stage_state`` changes no weight and no logit."""
    state = scenarios.stage_export_state
    require(not state.changed, f"{len(state.changed)} weights change, such as {state.changed[:1]}")
    require(not state.logits_changed, "the logits change")


@check(
    reason="The stage state is stored as safetensors because the next stage may run in another process.",
    hint="Return a dict from names to finite, dense tensors, or {}.",
)
def check_stage_state_tensors(scenarios: Scenarios) -> None:
    """``export_stage_state`` returns finite, dense tensors by name."""
    problem = tensor_problem(scenarios.stage_export_state.returned)
    require(not problem, f"export_stage_state returned {problem}")
