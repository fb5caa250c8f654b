"""Checks of exporting, restoring and detaching what was learned."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.errors import UserError
from harness.conformance.lifecycle import Tensors
from harness.conformance.registry import check, require
from harness.conformance.scenarios import Scenarios
from harness.conformance.snapshot import changed_tensors
from harness.training.hook_checks import tensor_problem


@check(
    reason="Adapters are stored as safetensors: finite, dense tensors by name, never pickles.",
    hint="Return a dict of such tensors; put numbers and strings into the settings.",
)
def check_export_tensors(scenarios: Scenarios) -> None:
    """``export`` returns finite, dense tensors by name."""
    problem = tensor_problem(scenarios.export_state.returned)
    require(not problem, f"export returned {problem}")


@check(
    reason="The exported tensors outlive the model, which other methods use next.",
    hint="Return copies on the CPU: tensor.detach().cpu().clone().",
)
def check_export_copies(scenarios: Scenarios) -> None:
    """No exported tensor shares memory with the model."""
    shared = scenarios.export_state.shared
    require(not shared, f"{len(shared)} exported tensors share memory with the model, such as {shared[:1]}")


@check(
    reason="Exporting the adapter must not change it.",
    hint="Only read in export.",
)
def check_export_idempotent(scenarios: Scenarios) -> None:
    """A second ``export`` returns the same."""
    names = _differing(scenarios.adapter, scenarios.export_state.returned_again)
    require(not names, f"{len(names)} tensors differ in a second export, such as {names[:1]}")


@check(
    reason="The restored adapter gives the answers, often in another process.",
    hint="Export everything that differs from the base, projector and frozen factors included, and restore all of it.",
)
def check_restore_reproduces_logits(scenarios: Scenarios) -> None:
    """Restored in a new model, the adapter gives the trained model's logits."""
    gap = float((scenarios.restore_state.logits - scenarios.train_state.logits).abs().max())
    require(gap <= 1e-5, f"restored, logits differ by up to {gap:.3g} from the trained model's")


@check(
    reason="A restored adapter is exported again when it is shared or continues in a next stage.",
    hint="In restore, put every tensor where export reads it.",
)
def check_restore_export_round_trip(scenarios: Scenarios) -> None:
    """Exported again after ``restore``, the tensors are the same."""
    names = _differing(scenarios.adapter, scenarios.restore_state.exported)
    require(not names, f"{len(names)} tensors differ when exported again, such as {names[:1]}")


@check(
    reason="An adapter of another model or method must be refused.",
    hint="Raise UserError if a name is unknown or a shape differs (methods.components.lora_layers.load_adapter does).",
)
def check_restore_rejects_unknown_tensor(scenarios: Scenarios) -> None:
    """``restore`` raises ``UserError`` for a tensor with an unknown name."""
    name, tensor = next(iter(scenarios.adapter.items()), ("weight", torch.ones(1)))
    try:
        scenarios.subject.build().restore(
            scenarios.fresh_model(), {**scenarios.adapter, f"{name}.of_another_model": tensor}
        )
    except UserError:
        return
    require(False, "a tensor with an unknown name is accepted")


@check(
    reason="After answering, the next method uses the base.",
    hint="Let detach undo restore, also in an instance whose attach was never called.",
)
def check_detach_after_restore(scenarios: Scenarios) -> None:
    """After ``restore`` and ``detach``, the base is bit for bit what it was."""
    difference = scenarios.restore_state.base.difference(scenarios.restore_state.detached)
    require(not difference, f"after restore and detach, {difference}")


@check(
    reason="The base is shared, and compared bit for bit after each method.",
    hint="Remove every module, hook and flag that attach and training added; keep copies of what you overwrite.",
)
def check_detach_after_training(scenarios: Scenarios) -> None:
    """After training and ``detach``, the base is bit for bit what it was."""
    difference = scenarios.attach_state.base.difference(scenarios.detach_state.base)
    require(not difference, f"after detach, {difference}")


@check(
    reason="After an error it is not known whether detach was called.",
    hint="Let detach do nothing if nothing is attached.",
)
def check_detach_twice(scenarios: Scenarios) -> None:
    """A second ``detach`` does nothing."""
    effect = scenarios.detach_state.second_detach
    require(not effect, f"the second time, {effect}")


@check(
    reason="An adapter that amounts to a change of the weights can be merged and served at no cost.",
    hint="If the layers are not linear in their input, declare the check in expected_failures.",
)
def check_mergeable(scenarios: Scenarios) -> None:
    """With each decoder linear merged into one matrix, the logits are the same."""
    gap = float((scenarios.train_state.merged_logits - scenarios.train_state.logits).abs().max())
    require(gap <= 1e-3, f"merged, logits differ by up to {gap:.3g}")


@check(
    reason="Rows such as lora:scaled-0.5 scale a trained update: the simplest way to trade learning for retention.",
    hint="Override scale_update for trained parts that are neither a B nor named like a weight of the base.",
)
def check_scaled_update(scenarios: Scenarios) -> None:
    """Scaled by 1, the update has the same bits; scaled by 0, the logits are the base's."""
    same, logits = scenarios.scaled_update
    names = _differing(scenarios.adapter, same)
    require(not names, f"scaled by 1, {len(names)} tensors differ, such as {names[:1]}")
    gap = float((logits - scenarios.attach_state.base_logits).abs().max())
    require(gap <= 1e-4, f"scaled by 0, logits differ by up to {gap:.3g} from the base's")


def _differing(adapter: Tensors, returned: Any) -> list[str]:
    return changed_tensors(adapter, returned) if isinstance(returned, dict) else ["everything"]
