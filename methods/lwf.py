"""LwF: learning without forgetting, by distilling the untouched model on the new inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from methods.base import Coefficient, InjectionMethod, Paper
from methods.interfaces import AdapterSettings, InjectableModel, setting

if TYPE_CHECKING:
    import torch

    from methods.interfaces import Batch, Tensors


@dataclasses.dataclass(frozen=True)
class LwFSettings(AdapterSettings):
    """LoRA's settings and the weight of the distillation."""

    coefficient: float = setting(1.0, "weight of the distillation; 0 is LoRA", source="avalanche's default")
    temperature: float = setting(2.0, "temperature of both distributions", source="LwF section 3.2")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("coefficient", 0 <= self.coefficient < float("inf"))
        self.check("temperature", 0 < self.temperature < float("inf"))


class LwF(InjectionMethod):
    """LoRA, held to what the untouched model would have said on the new inputs: L + c T^2 KL(teacher || student).

    Paper: Li and Hoiem, "Learning without Forgetting", ECCV 2016.
    Our reading: coefficient and temperature are avalanche's defaults, for KORE does not publish its own.
    Differences: the teacher is the same model with its adapter and projector switched off, in eval mode, so no second
        model is held. The divergence is averaged over supervised tokens. The factor T^2, which keeps the gradient's
        size as the temperature changes, is Hinton's; avalanche and mammoth leave it out.
    Cost: one more forward pass a step, about a third of the time with gradient checkpointing and half without.
    """

    name = "lwf"
    summary = "LoRA with the untouched model as teacher on the new inputs"
    paper = Paper("Learning without Forgetting", "https://arxiv.org/abs/1606.09282")
    interpretation = "coefficient and temperature are avalanche's, with T^2; KORE does not publish its own"
    Settings = LwFSettings
    settings: LwFSettings
    coefficient = Coefficient("coefficient", (0.1, 1.0, 10.0))

    _before: tuple[tuple[torch.nn.Parameter, torch.Tensor], ...] = ()
    """From the second stage on: what is trained, and its values at the end of the stage before."""

    def load_previous_stage(self, model: InjectableModel, earlier: Tensors) -> None:
        """The same adapter; as it is now, it is the teacher."""
        super().load_previous_stage(model, earlier)
        if self.settings.coefficient:
            trained = [parameter for parameter in model.module.parameters() if parameter.requires_grad]
            self._before = tuple((parameter, parameter.detach().clone()) for parameter in trained)

    def penalty(self, model: InjectableModel, batch: Batch, logits: torch.Tensor) -> torch.Tensor | None:
        """The distillation loss at the supervised positions."""
        if self.settings.coefficient == 0:
            return None
        from methods.components.covariance import no_recording
        from methods.components.lora_layers import without_adapter

        with self._as_before() if self._before else without_adapter(model), no_recording(model):
            teacher, _ = model.supervised(batch)
        return self.settings.coefficient * distillation(teacher, logits, self.settings.temperature)

    @contextmanager
    def _as_before(self) -> Iterator[None]:
        """The model of the stage before for the duration. Parameters change storage, not version: graphs stay valid."""
        now = [parameter.data for parameter, _ in self._before]
        for parameter, values in self._before:
            parameter.data = values
        try:
            yield
        finally:
            for (parameter, _), values in zip(self._before, now, strict=True):
                parameter.data = values


def distillation(teacher: torch.Tensor, student: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 KL(teacher || student) of the distributions at temperature T, averaged over rows.

    Args:
        teacher: Logits (n, vocabulary), without a graph.
        student: Logits (n, vocabulary).
        temperature: T > 0.
    """
    from torch.nn.functional import kl_div, log_softmax

    wanted, found = (log_softmax(logits / temperature, dim=-1) for logits in (teacher, student))
    return temperature**2 * kl_div(found, wanted, reduction="batchmean", log_target=True)
