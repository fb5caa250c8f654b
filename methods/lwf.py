"""LwF: learning without forgetting, by distilling the untouched model on the new inputs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from methods.base import (
    AdapterSettings,
    Batch,
    Coefficient,
    DecoderShapes,
    InjectableModel,
    InjectionMethod,
    MemoryNeeds,
    Paper,
    Tensor,
    Tensors,
    setting,
)
from methods.components.divergence import DISTRIBUTIONS, divergence

if TYPE_CHECKING:
    from methods.components.earlier_model import EarlierModel


@dataclasses.dataclass(frozen=True)
class LwFSettings(AdapterSettings):
    """LoRA's settings, and those of the distillation."""

    coefficient: float = setting(1.0, "weight of the distillation; 0 is LoRA", source="avalanche's default", ge=0)
    temperature: float = setting(2.0, "temperature of both distributions", source="LwF section 3.2", gt=0)


class LwF(InjectionMethod):
    """LoRA with the untouched model as teacher on the new inputs: L + c T^2 KL(teacher || student).

    Paper: Li and Hoiem, "Learning without Forgetting", ECCV 2016.
    Interpretation: coefficient and temperature are avalanche's defaults, since KORE does not publish its own.
    Differences: the teacher is the same model with adapter and projector switched off, in eval mode, so that no second
        model is needed; from the second stage on, it is the model at the end of the previous stage. The divergence is
        averaged over supervised tokens. The factor T^2, which keeps the gradient's size independent of the temperature,
        is Hinton's; avalanche and mammoth leave it out.
    Cost: one more forward pass a step: about a third more time with gradient checkpointing, half more without.
    """

    name = "lwf"
    summary = "LoRA with the untouched model as teacher on the new inputs"
    paper = Paper("Learning without Forgetting", "https://arxiv.org/abs/1606.09282")
    interpretation = "coefficient and temperature are avalanche's, with T^2; KORE does not publish its own"
    Settings = LwFSettings
    settings: LwFSettings
    coefficient = Coefficient("coefficient", (0.1, 1.0, 10.0))

    _teacher: EarlierModel | None = None
    """From the second stage on: the model at the end of the previous stage."""

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """As for LoRA, and the teacher's logits, both scaled distributions, and the terms of the divergence."""
        needs = super().memory_needs(shapes)
        return needs.plus(vocabulary_copies=DISTRIBUTIONS) if self.settings.coefficient else needs

    def load_previous_stage(self, model: InjectableModel, exported: Tensors) -> None:
        """Continue with the same adapter; its current values become the teacher's."""
        super().load_previous_stage(model, exported)
        if self.settings.coefficient:
            from methods.components.earlier_model import EarlierModel

            self._teacher = EarlierModel()
            self._teacher.keep(model)

    def penalty(self, model: InjectableModel, batch: Batch, logits: Tensor) -> Tensor | None:
        """The distillation loss at the supervised positions."""
        if self.settings.coefficient == 0:
            return None
        from methods.components.earlier_model import EarlierModel

        with (self._teacher or EarlierModel()).active(model):
            teacher, _ = model.supervised(batch)
        return self.settings.coefficient * distillation(teacher, logits, self.settings.temperature)


def distillation(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of the distributions at temperature T, averaged over rows.

    Args:
        teacher: Logits (n, vocabulary), without a graph.
        student: Logits (n, vocabulary).
        temperature: T > 0.
    """
    return temperature**2 * (divergence(teacher / temperature, student / temperature, "forward") / len(teacher))
