"""Full fine-tuning: the language model and the projector themselves are trained."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from benchmarks.errors import UserError
from methods.base import InjectionMethod, Paper
from methods.interfaces import InjectableModel, MethodSettings, setting

if TYPE_CHECKING:
    import torch

    from methods.interfaces import Tensors

_KEPT = "_injection_kept"


@dataclasses.dataclass(frozen=True)
class FullFTSettings(MethodSettings):
    """Full-FT's settings; the learning rate is LLaVA's for full fine-tuning, a tenth of its rate for adapters."""

    learning_rate: float = setting(2e-5, "peak learning rate of the language model", source="LLaVA finetune_task.sh")


class FullFT(InjectionMethod):
    """Every weight of the language model and of the projector is trained; the vision tower is frozen.

    Paper: Liu et al., "Improved Baselines with Visual Instruction Tuning", CVPR 2024, stage two of its training.
    Differences: none in the training. What is exported are the tensors that changed, in the base's own type; the base
        is kept on the CPU meanwhile and put back bit for bit.
    Cost: AdamW holds three more float32 copies of 6,759,395,328 parameters on LLaVA-1.5-7B, about 108 GB.
    """

    name = "full-ft"
    summary = "language model and projector trained in full, vision tower frozen"
    paper = Paper("Improved Baselines with Visual Instruction Tuning", "https://arxiv.org/abs/2310.03744")
    Settings = FullFTSettings

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """Unfreeze all but the vision tower, in float32 at least."""
        import torch

        kept = self._keep(model)
        for name, parameter in model.module.named_parameters():
            parameter.requires_grad_(name in kept)
            if name in kept:
                parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))

    def load_previous_stage(self, model: InjectableModel, earlier: Tensors) -> None:
        """Every weight goes on from where the stage before ended."""
        self._put(model, earlier)

    def export(self, model: InjectableModel) -> Tensors:
        """The tensors that differ from the base, in the base's type."""
        changed = {}
        for name, (before, _) in vars(model.module)[_KEPT].items():
            after = model.module.get_parameter(name).detach().to("cpu", before.dtype)
            if not after.equal(before):
                changed[name] = after.clone().contiguous()
        return changed

    def restore(self, model: InjectableModel, tensors: Tensors) -> None:
        """Put the changed tensors in, in the base's type."""
        self._keep(model)
        self._put(model, tensors)

    def _put(self, model: InjectableModel, tensors: Tensors) -> None:
        kept = vars(model.module)[_KEPT]
        wrong = sorted(name for name in tensors if name not in kept or kept[name][0].shape != tensors[name].shape)
        if wrong:
            self.detach(model)
            raise UserError(
                f"{len(wrong)} tensors are unknown or of another shape, the first is {wrong[0]}",
                location=self.name,
                hint="use them with the model that they were trained from",
            )
        for name, tensor in tensors.items():
            parameter = model.module.get_parameter(name)
            parameter.data = tensor.to(parameter.device, parameter.dtype, copy=True)

    def detach(self, model: InjectableModel) -> None:
        """Put the base back, bit for bit. Harmless twice."""
        for name, (before, flag) in vars(model.module).pop(_KEPT, {}).items():
            parameter = model.module.get_parameter(name)
            parameter.data, parameter.grad = before.to(parameter.device, copy=True), None
            parameter.requires_grad_(flag)

    def _keep(self, model: InjectableModel) -> dict[str, tuple[torch.Tensor, bool]]:
        """Copies on the CPU of all that may change, with their ``requires_grad``."""
        from methods.components.lora_layers import VISION

        if _KEPT in vars(model.module):
            raise UserError("the model is being trained in full already", location="attach", hint="detach it first")
        kept = {}
        for name, parameter in model.module.named_parameters():
            path = name.split(".")
            rate = self.settings.projector_learning_rate
            if rate > 0 if model.projector in path else not VISION & set(path):
                values = parameter.detach()
                kept[name] = (values if values.is_meta else values.to("cpu", copy=True), parameter.requires_grad)
        vars(model.module)[_KEPT] = kept
        return kept
