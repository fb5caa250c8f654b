"""Checks of several injection stages."""

from __future__ import annotations

from harness.conformance.registry import Inconclusive, check, require
from harness.conformance.scenarios import Scenarios
from harness.training.hook_checks import tensor_problem

EQUAL = 1e-5
"""Largest difference of logits that counts as none."""


@check(
    "go-on-continues",
    reason="Each stage begins where the one before it ended.",
    hint="Load or freeze in load_previous_stage what the stage before exported (methods.components.lora_layers.load_adapter loads).",
)
def load_previous_stage_continues(seen: Scenarios) -> None:
    """Before its first step, the second stage has the logits that the first ended with."""
    gap = float((seen.second.start - seen.fitted.logits).abs().max())
    require(gap <= 1e-4, f"the second stage begins with logits that differ by up to {gap:.3g}")


@check(
    "stages-restore",
    reason="What all stages learnt must be in the one export that answers are given from.",
    hint="Export and restore what earlier stages left, too, such as a frozen second adapter.",
)
def stages_restore(seen: Scenarios) -> None:
    """A fresh model with the second stage's export has its logits."""
    second = seen.second
    if float((seen.restored.logits - seen.fitted.logits).abs().max()) > EQUAL:
        raise Inconclusive("restore does not even put back a single stage")
    require(second.restored is not None, f"the second stage's export cannot be restored: {second.refused}")
    if second.restored is not None:
        gap = float((second.restored - second.end).abs().max())
        require(gap <= EQUAL, f"restored, logits differ by up to {gap:.3g} from the second stage's")


@check(
    "after-training-pure",
    reason="The adapter is exported before; what is handed on must belong to the same model.",
    hint="Let export_stage_state only read, or put back what it changes.",
)
def export_stage_state_pure(seen: Scenarios) -> None:
    """No weight and no logit changes."""
    found = seen.export_stage_state
    require(not found.changed, f"{len(found.changed)} weights change, such as {found.changed[:1]}")
    require(not found.shows, "the logits change")


@check(
    "carried-storable",
    reason="What is handed on is stored as safetensors, for the next stage may run in another process.",
    hint="Return a dict of finite, dense tensors by name, or {}.",
)
def carried_storable(seen: Scenarios) -> None:
    """Finite, dense tensors by name."""
    problem = tensor_problem(seen.export_stage_state.raw)
    require(not problem, f"export_stage_state gave {problem}")
