"""Methods with a new adapter in every injection stage, beside the frozen adapters of earlier stages.

With a single stage there is no earlier adapter. For that case such a method can have a *pseudo-task*: a LoRA is first
trained on a sample of the replay pool, as if the base had learned it in an earlier stage, and takes the place of the
earlier adapter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from benchmarks.records import Conversation, KnowledgeItem
from methods.base import AdapterSettings, InjectableModel, InjectionMethod, Resources, Tensors, setting

PAST = "past"
"""Name of the frozen adapter that combines those of all earlier stages."""


@dataclasses.dataclass(frozen=True)
class SequentialLoRASettings(AdapterSettings):
    """LoRA's settings, and those of the pseudo-task before the first stage."""

    pseudo_ratio: float = setting(
        0.0,
        "samples of the replay pool for a pseudo-task per knowledge item; 0: no pseudo-task",
        source="ours: Replay's budget",
        ge=0,
    )
    pseudo_epochs: int = setting(
        6, "passes over the pseudo-task's samples", unit="epochs", source="ours: KORE table 7", ge=1
    )


class SequentialLoRA(InjectionMethod):
    """LoRA with a new adapter in each stage, beside the frozen sum of earlier ones; all stages share the projector."""

    Settings = SequentialLoRASettings
    settings: SequentialLoRASettings
    _items = 0
    """Number of knowledge items."""

    def training_data(self, knowledge: Sequence[KnowledgeItem], resources: Resources) -> list[Conversation]:
        """As for LoRA; the number of items determines the size of a pseudo-task."""
        self._items = len(knowledge)
        return super().training_data(knowledge, resources)

    def _pseudo_task(self, model: InjectableModel, resources: Resources) -> Tensors:
        """``<layer>.A`` and ``<layer>.B`` of a LoRA trained on the replay pool; empty without a pseudo-task."""
        if not self.settings.pseudo_ratio:
            return {}
        import torch

        from benchmarks.records import content_digest
        from methods.components.pseudo_task import train_lora

        settings = self.settings
        samples = resources.pool_samples(max(1, round(settings.pseudo_ratio * self._items)), "pseudo-task")
        key = {
            "what": "pseudo-task",
            "adapter": [settings.rank, settings.alpha, settings.dropout, settings.learning_rate, settings.weight_decay],
            "epochs": settings.pseudo_epochs,
            "seed": torch.initial_seed(),
            "samples": content_digest(samples),
        }
        return resources.cached(key, lambda: train_lora(model, settings, samples, settings.pseudo_epochs))

    def load_previous_stage(self, model: InjectableModel, exported: Tensors) -> None:
        """Load the earlier stages' adapters, frozen, beside the new one; the projector is trained further."""
        import torch

        from methods.components.lora_layers import export_adapter, load_adapter, lora_layers

        state = {name: tensor for name, tensor in exported.items() if ".lora_" not in name}
        new = export_adapter(model)
        for name in (f"{layer}.{factor}" for layer, _ in lora_layers(model.module) for factor in ("lora_A", "lora_B")):
            parts = [exported[key] for key in (f"{name}.{PAST}.weight", f"{name}.weight") if key in exported]
            if parts:  # load_adapter reports what is missing
                state[f"{name}.{PAST}.weight"] = torch.cat(parts, dim=0 if name.endswith("lora_A") else 1)
            state[f"{name}.weight"] = new[f"{name}.weight"]
        self._add_past(model, state)
        load_adapter(model, state)

    def restore(self, model: InjectableModel, exported: Tensors) -> None:
        """Attach and load the adapters of all stages."""
        from methods.components.lora_layers import attach_lora, load_adapter

        attach_lora(model, self.settings)
        self._add_past(model, exported)
        load_adapter(model, exported)

    def _add_past(self, model: InjectableModel, tensors: Tensors) -> None:
        """Add a frozen adapter for the earlier stages in ``tensors``, if there are any."""
        from methods.components.lora_layers import add_frozen_adapter

        ranks = {tensor.shape[0] for name, tensor in tensors.items() if name.endswith(f"lora_A.{PAST}.weight")}
        if ranks:
            add_frozen_adapter(model, PAST, max(ranks), scaling=self.settings.alpha / self.settings.rank)
