"""Checks of how what was learnt is taken out, stored and put back."""

from __future__ import annotations

from benchmarks.errors import UserError
from harness.conformance.fakes import fresh_model
from harness.conformance.registry import check, require
from harness.conformance.scenarios import Scenarios, differing
from harness.training.hook_checks import tensor_problem


@check(
    "export-storable",
    reason="Adapters are stored as safetensors: finite, dense tensors by name, never pickles.",
    hint="Return a dict of such tensors; put numbers and texts into the settings.",
)
def export_storable(seen: Scenarios) -> None:
    """Finite, dense tensors by name."""
    problem = tensor_problem(seen.exported.raw)
    require(not problem, f"export gave {problem}")


@check(
    "export-copies",
    reason="The exported tensors outlive the model that they came from, which goes on to other methods.",
    hint="Return copies on the CPU: tensor.detach().cpu().clone().",
)
def export_copies(seen: Scenarios) -> None:
    """No exported tensor is the model's own memory."""
    shares = seen.exported.shares
    require(not shares, f"{len(shares)} exported tensors are the model's own, such as {shares[:1]}")


@check(
    "export-repeatable",
    reason="Taking the adapter out must not change it.",
    hint="Let export only read.",
)
def export_repeatable(seen: Scenarios) -> None:
    """A second export gives the same."""
    differ = differing(seen.adapter, seen.exported.again)
    require(not differ, f"{len(differ)} tensors differ in a second export, such as {differ[:1]}")


@check(
    "restore-equals",
    reason="Answers are given by the restored adapter, often in another process.",
    hint="Export all that differs from the base, projector and frozen factors included, and put all of it back.",
)
def restore_equals(seen: Scenarios) -> None:
    """A fresh instance on a fresh model has the trained model's logits."""
    gap = float((seen.restored.logits - seen.fitted.logits).abs().max())
    require(gap <= 1e-5, f"restored, logits differ by up to {gap:.3g} from the trained model's")


@check(
    "restore-exports-same",
    reason="An adapter that goes on to a next stage, or is shared, is exported again.",
    hint="Put every tensor back where export finds it.",
)
def restore_exports_same(seen: Scenarios) -> None:
    """Exported again, the same tensors."""
    differ = differing(seen.adapter, seen.restored.again)
    require(not differ, f"{len(differ)} tensors differ when exported again, such as {differ[:1]}")


@check(
    "restore-refuses-strangers",
    reason="An adapter of another model or method must not be taken for this one.",
    hint="Raise UserError where a tensor is unknown or of another shape (methods.components.lora_layers.load_adapter does).",
)
def restore_refuses_strangers(seen: Scenarios) -> None:
    """A tensor of unknown name is refused as the user's mistake."""
    name, tensor = next(iter(seen.adapter.items()))
    try:
        seen.subject.make().restore(fresh_model(), {**seen.adapter, f"{name}.of_another_model": tensor})
    except UserError:
        return
    require(False, "a tensor that belongs to nothing is not refused")


@check(
    "restore-detaches",
    reason="After answering, the base goes on to the next method.",
    hint="Let detach undo what restore does, also in an instance whose attach was never called.",
)
def restore_detaches(seen: Scenarios) -> None:
    """After restore and detach the base is bit for bit what it was."""
    difference = seen.restored.fresh.difference(seen.restored.detached)
    require(not difference, f"after restore and detach, {difference}")


@check(
    "detach-restores",
    reason="The base is shared, and compared bit for bit after each method.",
    hint="Remove every part, hook and flag that attach and training added; keep copies of what you write over.",
)
def detach_restores(seen: Scenarios) -> None:
    """After training and detach the base is bit for bit what it was."""
    difference = seen.begun.base.difference(seen.detached.base)
    require(not difference, f"after detach, {difference}")


@check(
    "detach-twice",
    reason="After a failure it is not known whether detach was called.",
    hint="Let detach do nothing where nothing is attached.",
)
def detach_twice(seen: Scenarios) -> None:
    """A second detach does nothing."""
    require(not seen.detached.twice, f"the second time, {seen.detached.twice}")


@check(
    "merges",
    reason="An adapter that amounts to a change of the weights can be served at no cost.",
    hint="Where the layers are not linear in their input, say so in expected_failures.",
)
def merges(seen: Scenarios) -> None:
    """With each decoder linear as one matrix, the logits are the same."""
    gap = float((seen.fitted.merged - seen.fitted.logits).abs().max())
    require(gap <= 1e-3, f"merged, logits differ by up to {gap:.3g}")
