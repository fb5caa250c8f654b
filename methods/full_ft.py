"""Full fine-tuning: all weights of the language model and the projector are trained."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from benchmarks.errors import UserError
from methods.base import (
    DecoderShapes,
    InjectableModel,
    InjectionMethod,
    MemoryNeeds,
    MethodSettings,
    Paper,
    Tensor,
    Tensors,
    setting,
)

if TYPE_CHECKING:
    pass

_BASE = "_injection_base"
"""Attribute of the model's module that holds copies of the base's weights while they are trained."""


@dataclasses.dataclass(frozen=True)
class FullFTSettings(MethodSettings):
    """Full-FT's settings; the learning rate is LLaVA's for full fine-tuning, a tenth of its rate for adapters."""

    learning_rate: float = setting(2e-5, "peak learning rate of the language model", source="LLaVA finetune_task.sh")


class FullFT(InjectionMethod):
    """Every weight of the language model and of the projector is trained; the vision tower is frozen.

    Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning", CVPR 2024, stage two of its training.
    Differences: none in the training. Only tensors that changed are exported, in the base's data type; the base is kept
        on the CPU and restored bit for bit.
    Cost: AdamW holds three more float32 copies of 6,759,395,328 parameters on LLaVA-1.5-7B, about 108 GB.
    """

    name = "full-ft"
    summary = "language model and projector trained in full, vision tower frozen"
    paper = Paper("Improved Baselines with Visual Instruction Tuning", "https://arxiv.org/abs/2310.03744")
    Settings = FullFTSettings

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """Unfreeze everything but the vision tower, in float32 or wider."""
        import torch

        base = self._copy_base(model)
        for name, parameter in model.module.named_parameters():
            parameter.requires_grad_(name in base)
            if name in base:
                parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """Every weight of the language model, and the projector if it has a learning rate."""
        projector = shapes.projector if self.settings.projector_learning_rate > 0 else 0
        return MemoryNeeds(shapes.matrices + shapes.others + projector, trains_base=True)

    def load_previous_stage(self, model: InjectableModel, exported: Tensors) -> None:
        """Start from the weights at the end of the previous stage."""
        self._load(model, exported)

    def export(self, model: InjectableModel) -> Tensors:
        """The tensors that differ from the base, in the base's data type."""
        changed = {}
        for name, (before, _) in vars(model.module)[_BASE].items():
            after = model.module.get_parameter(name).detach().to("cpu", before.dtype)
            if not after.equal(before):
                changed[name] = after.clone().contiguous()
        return changed

    def detach(self, model: InjectableModel) -> None:
        """Restore the base, bit for bit."""
        for name, (before, requires_grad) in vars(model.module).pop(_BASE, {}).items():
            parameter = model.module.get_parameter(name)
            parameter.data, parameter.grad = before.to(parameter.device, copy=True), None
            parameter.requires_grad_(requires_grad)

    def restore(self, model: InjectableModel, exported: Tensors) -> None:
        """Load the changed tensors, in the base's data type."""
        self._copy_base(model)
        self._load(model, exported)

    def _load(self, model: InjectableModel, exported: Tensors) -> None:
        base = vars(model.module)[_BASE]
        wrong = sorted(name for name in exported if name not in base or base[name][0].shape != exported[name].shape)
        if wrong:
            self.detach(model)
            raise UserError(
                f"{len(wrong)} tensors are unknown or of another shape, the first is {wrong[0]}",
                location=self.name,
                hint="use them with the model that they were trained from",
            )
        for name, tensor in exported.items():
            parameter = model.module.get_parameter(name)
            parameter.data = tensor.to(parameter.device, parameter.dtype, copy=True)

    def _copied(self, model: InjectableModel) -> frozenset[str]:
        """Names of the parameters that may change."""
        trains_projector = self.settings.projector_learning_rate > 0
        paths = {name: name.split(".") for name, _ in model.module.named_parameters()}
        return frozenset(
            name
            for name, path in paths.items()
            if (trains_projector if model.projector in path else not model.towers & set(path))
        )

    def _copy_base(self, model: InjectableModel) -> dict[str, tuple[Tensor, bool]]:
        """Copy to the CPU every parameter that may change, with its ``requires_grad``.

        Raises:
            UserError: It is copied already, or the base is quantised.
        """
        from methods.components.base_weights import is_quantized

        if _BASE in vars(model.module):
            raise UserError("the model is being trained in full already", location="attach", hint="detach it first")
        base, copied = {}, self._copied(model)
        quantized = [name for name, parameter in model.module.named_parameters() if is_quantized(parameter)]
        if quantized:
            raise UserError(
                f"quantised weights can neither be trained nor replaced: {len(quantized)} are, such as {quantized[0]}",
                location="precision",
                hint="set precision to bfloat16 for this row, or train an adapter",
            )
        for name, parameter in model.module.named_parameters():
            if name in copied:
                values = parameter.detach()
                base[name] = (values if values.is_meta else values.to("cpu", copy=True), parameter.requires_grad)
        vars(model.module)[_BASE] = base
        return base
