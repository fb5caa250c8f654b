"""Methods that give every injection stage an adapter of its own: those of earlier stages stay beside it, frozen.

With a single stage there is no earlier one. For that case such a method can be given a *pseudo-task*: a LoRA that is
first trained on a sample of old data, as if the base had been taught it in a stage before, and serves as the past.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.records import Conversation, KnowledgeItem
from methods.base import InjectionMethod
from methods.interfaces import AdapterSettings, InjectableModel, Resources, setting

if TYPE_CHECKING:
    from methods.interfaces import Tensors

PAST = "past"
"""The frozen adapter that holds what all earlier stages learnt."""


@dataclasses.dataclass(frozen=True)
class SequentialLoRASettings(AdapterSettings):
    """LoRA's settings and the pseudo-task before the first stage."""

    pseudo_ratio: float = setting(
        0.0, "old samples of a pseudo-task for each knowledge item; 0: no pseudo-task", source="ours: Replay's budget"
    )
    pseudo_epochs: int = setting(6, "passes over the pseudo-task", unit="epochs", source="ours: KORE table 7")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("pseudo_ratio", 0 <= self.pseudo_ratio < float("inf"))
        self.check("pseudo_epochs", self.pseudo_epochs >= 1)


class SequentialLoRA(InjectionMethod):
    """LoRA with a new adapter in each stage, over the frozen sum of the earlier ones; the projector is trained on."""

    Settings = SequentialLoRASettings
    settings: SequentialLoRASettings
    _items = 0

    def training_data(self, knowledge: Sequence[KnowledgeItem], resources: Resources) -> list[Conversation]:
        """As LoRA; the number of items decides the size of a pseudo-task."""
        self._items = len(knowledge)
        return super().training_data(knowledge, resources)

    def _pseudo_task(self, model: InjectableModel, resources: Resources) -> Tensors:
        """``<layer>.A`` and ``<layer>.B`` of a LoRA trained on old data; empty where the settings want none."""
        if not self.settings.pseudo_ratio:
            return {}
        import torch

        from methods.components.covariance import content_digest
        from methods.components.pseudo_task import train_lora

        settings = self.settings
        samples = resources.pretraining_samples(max(1, round(settings.pseudo_ratio * self._items)), "pseudo-task")
        key = {
            "what": "pseudo-task",
            "adapter": [settings.rank, settings.alpha, settings.dropout, settings.learning_rate, settings.weight_decay],
            "epochs": settings.pseudo_epochs,
            "seed": torch.initial_seed(),
            "samples": content_digest(samples),
        }
        return resources.cached(key, lambda: train_lora(model, settings, samples, settings.pseudo_epochs))

    def load_previous_stage(self, model: InjectableModel, earlier: Tensors) -> None:
        """Freeze all that earlier stages learnt beside the fresh adapter; the projector goes on from where it was."""
        import torch

        from methods.components.lora_layers import export_adapter, load_adapter, lora_layers

        state = {name: tensor for name, tensor in earlier.items() if ".lora_" not in name}
        fresh = export_adapter(model)
        for name in (f"{layer}.{factor}" for layer, _ in lora_layers(model.module) for factor in ("lora_A", "lora_B")):
            parts = [earlier[key] for key in (f"{name}.{PAST}.weight", f"{name}.weight") if key in earlier]
            if parts:  # load_adapter says what is missing
                state[f"{name}.{PAST}.weight"] = torch.cat(parts, dim=0 if name.endswith("lora_A") else 1)
            state[f"{name}.weight"] = fresh[f"{name}.weight"]
        self._add_past(model, state)
        load_adapter(model, state)

    def restore(self, model: InjectableModel, tensors: Tensors) -> None:
        """The adapters of all stages as exported."""
        from methods.components.lora_layers import attach_lora, load_adapter

        attach_lora(model, self.settings)
        self._add_past(model, tensors)
        load_adapter(model, tensors)

    def _add_past(self, model: InjectableModel, tensors: Tensors) -> None:
        """Make room for the earlier adapters that the tensors hold, if any."""
        from methods.components.lora_layers import add_frozen

        ranks = {tensor.shape[0] for name, tensor in tensors.items() if name.endswith(f"lora_A.{PAST}.weight")}
        if ranks:
            add_frozen(model, PAST, max(ranks), scaling=self.settings.alpha / self.settings.rank)
