"""Methods with a new adapter in every injection stage, beside the frozen adapters of earlier stages.

With a single stage there is no earlier adapter. For that case such a method can have a *pseudo-task*: a LoRA is first
trained on a sample of the replay pool, as if the base had learned it in an earlier stage, and takes the place of the
earlier adapter. Or the base's own training takes that place: the *weight difference* between the base and the language
model that it was trained from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError
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
    weight_difference: bool = setting(
        False, "let the base's difference from language_base take the place of an earlier stage", source="ours"
    )
    language_base: str = setting(
        "", "folder or hub id of the language model that the base was trained from", unit="model folder", source="ours"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("weight_difference", not (self.weight_difference and self.pseudo_ratio), "leave pseudo_ratio at 0")

    def cache_key(self) -> dict[str, Any]:
        """As for every method; the language model by the content of its weights, and only where it is read."""
        from methods.components.stored_weights import weights_identity

        identity = weights_identity(self.language_folder()) if self.weight_difference else ""
        return {**super().cache_key(), "language_base": identity}

    def language_folder(self) -> Path:
        """The folder of ``language_base``.

        Raises:
            UserError: None is given.
        """
        if not self.language_base:
            raise UserError(
                "the difference from the language-only base model needs that model",
                location="setting language_base",
                hint="name the model that the base was trained from, such as --set METHOD.language_base=FOLDER",
            )
        return Path(self.language_base)


class SequentialLoRA(InjectionMethod):
    """LoRA with a new adapter in each stage, beside the frozen sum of earlier ones; all stages share the projector."""

    Settings = SequentialLoRASettings
    settings: SequentialLoRASettings
    _items = 0
    """Number of knowledge items."""

    @property
    def pools(self) -> tuple[str, ...]:
        """The replay pool, if there is a pseudo-task."""
        return ("replay",) if self.settings.pseudo_ratio else ()

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
            **settings.narrowing,
        }
        return resources.cached(key, lambda: train_lora(model, settings, samples, settings.pseudo_epochs))

    def check_data(self, knowledge: Sequence[KnowledgeItem], divided: Sequence[KnowledgeItem] = ()) -> None:
        """Also refuse a language model that is missing or has no decoder layers in safetensors."""
        super().check_data(knowledge, divided)
        if self.settings.weight_difference:
            from methods.components.stored_weights import StoredWeights

            StoredWeights(self.settings.language_folder())

    def _weight_difference(self, resources: Resources, what: list[Any], measure: Callable[[Path], Tensors]) -> Tensors:
        """What is measured of the base's difference from its language model, computed once.

        Args:
            resources: Of the run.
            what: All that the result depends on, besides both models.
            measure: Gets the language model's folder.
        """
        from methods.components.stored_weights import weights_identity

        folder = self.settings.language_folder()
        key = {"what": "weight difference", "of": what, "from": weights_identity(folder), **self.settings.narrowing}
        return resources.cached(key, lambda: measure(folder))

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """As for LoRA."""
        self._attach_stage(model)

    def _attach_stage(self, model: InjectableModel) -> None:
        """Add the adapter of one stage."""
        from methods.components.lora_layers import attach_lora

        attach_lora(model, self.settings)

    def load_previous_stage(self, model: InjectableModel, exported: Tensors) -> None:
        """Load the earlier stages' adapters, frozen, beside the new one; the projector is trained further."""
        load_beside(model, exported, self.settings.alpha / self.settings.rank)

    def restore(self, model: InjectableModel, exported: Tensors) -> None:
        """Attach and load the adapters of all stages."""
        from methods.components.lora_layers import load_adapter

        self._attach_stage(model)
        add_past(model, exported, self.settings.alpha / self.settings.rank)
        load_adapter(model, exported)


def load_beside(model: InjectableModel, exported: Tensors, scaling: float) -> None:
    """Keep the attached adapter as it is, and load what earlier stages exported, frozen, beside it.

    Args:
        model: With the new stage's adapter attached.
        exported: What the previous stage exported, its own earlier stages included.
        scaling: Factor of the earlier stages' B A.
    """
    import torch

    from methods.components.lora_layers import export_adapter, load_adapter, lora_layers

    state = {name: tensor for name, tensor in exported.items() if ".lora_" not in name}
    new = export_adapter(model)
    for name in (f"{layer}.{factor}" for layer, _ in lora_layers(model.module) for factor in ("lora_A", "lora_B")):
        parts = [exported[key] for key in (f"{name}.{PAST}.weight", f"{name}.weight") if key in exported]
        if parts:  # load_adapter reports what is missing
            state[f"{name}.{PAST}.weight"] = torch.cat(parts, dim=0 if name.endswith("lora_A") else 1)
        state[f"{name}.weight"] = new[f"{name}.weight"]
    add_past(model, state, scaling)
    load_adapter(model, state)


def add_past(model: InjectableModel, tensors: Tensors, scaling: float) -> None:
    """Add a frozen adapter for the earlier stages in ``tensors``, if there are any."""
    from methods.components.lora_layers import add_frozen_adapter

    ranks = {tensor.shape[0] for name, tensor in tensors.items() if name.endswith(f"lora_A.{PAST}.weight")}
    if ranks:
        add_frozen_adapter(model, PAST, max(ranks), scaling=scaling)
