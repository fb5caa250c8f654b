"""SEFE: answers in several styles, and a penalty on changing what earlier stages changed most."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from benchmarks.records import Conversation, KnowledgeItem
from methods.base import (
    Batch,
    Coefficient,
    DecoderShapes,
    InjectableModel,
    MemoryNeeds,
    Paper,
    Resources,
    Tensor,
    Tensors,
    Variant,
    setting,
)
from methods.components.sequential_lora import SequentialLoRA, SequentialLoRASettings
from methods.memory import FLOAT32


@dataclasses.dataclass(frozen=True)
class SEFESettings(SequentialLoRASettings):
    """LoRA's settings, and those of RegLoRA, the answer styles and the pseudo-task."""

    coefficient: float = setting(2500.0, "weight of RegLoRA's penalty; 0 leaves it out", source="SEFE: 2.5e3", ge=0)
    held: float = setting(
        0.02, "share of a layer's weight entries that is penalised", source="SEFE: top 2 %", gt=0, le=1
    )
    rewritten: float = setting(
        0.2, "share of the items described in another style", source="SEFE's train_x20", ge=0, le=1
    )


class SEFE(SequentialLoRA):
    """Answer-style diversification, and c mean |(B A)_ij| over the entries that earlier stages changed most (RegLoRA).

    Paper: Chen et al., "SEFE: Superficial and Essential Forgetting Eliminator for Multimodal Continual Instruction
        Tuning", ICML 2025.
    Interpretation: the styles are written by template, without a language model (hence SEFE-lite), and split evenly.
        With one stage there is no earlier adapter, so that only the styles remain; for that case ``pseudo-task`` (ours)
        penalises the entries that a LoRA trained on the replay pool changes most, and ``weight-difference`` (ours)
        those in which the base differs most from the language model that it was trained from.
    Differences: the penalty is averaged over the model's own number of layers instead of the code's 224. Earlier
        adapters are kept beside the base, frozen, instead of being merged into it, which is the same function.
    Cost: from the second stage on, B A of every layer once per optimiser step (1.7 TFLOP forward at rank 128 on
        LLaVA-1.5-7B), 0.5 GB of int32 indices for each earlier stage, and a second copy of the gradients of A and B.
        For ``pseudo-task`` also a short training beforehand, on as many samples as Replay uses; for
        ``weight-difference`` one pass over the weights of both models.
    """

    name = "sefe"
    summary = "SEFE-lite: answers in several styles, by template; the largest earlier changes held"
    paper = Paper("SEFE: Superficial and Essential Forgetting Eliminator", "https://arxiv.org/abs/2505.02486")
    interpretation = (
        "templates instead of a language model write the answer styles, split evenly; with one injection stage the "
        "penalty has nothing to hold; pseudo-task is ours, and weight-difference (which holds what the base's own "
        "training changed most in its language model) too"
    )
    Settings = SEFESettings
    settings: SEFESettings
    coefficient = Coefficient("coefficient", (25.0, 250.0, 2500.0))
    variants: ClassVar[Mapping[str, Variant]] = {
        "pseudo-task": Variant(
            {"pseudo_ratio": 0.1}, "holds what a LoRA trained on the replay pool changes most (ours)"
        ),
        "weight-difference": Variant(
            {"weight_difference": True},
            "holds where the base differs most from language_base, its language model before training (ours)",
            needs={"language_base": ""},
        ),
    }
    _rewritten = 0
    """Number of conversations in another style."""

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """As for LoRA; if entries are held, their indices (int32), a layer's B A, and gradients of A and B again."""
        needs, settings = super().memory_needs(shapes), self.settings
        if not settings.coefficient or not (settings.pseudo_ratio or settings.weight_difference):
            return needs
        largest = max(d_in * d_out for d_in, d_out in shapes.linears)
        step = FLOAT32 * (2 * largest + self.adapter_parameters(shapes.linears))
        return needs.plus(statistics=round(settings.held * shapes.matrices) * FLOAT32, step=step)

    def training_data(self, knowledge: Sequence[KnowledgeItem], resources: Resources) -> list[Conversation]:
        """LoRA's conversations, with a share of the descriptions rewritten in other styles."""
        from methods.augmentation.answer_styles import restyle

        data = super().training_data(knowledge, resources)
        restyled = restyle(knowledge, data, self.settings.rewritten, resources.seed)
        self._rewritten = sum(after is not before for before, after in zip(data, restyled, strict=True))
        return restyled

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """Return ``<layer>.held``, int32 indices of the entries that earlier stages changed most; none at the first."""
        if self.settings.coefficient == 0:
            return {}
        if resources.stage > 1:
            return resources.stage_state
        from methods.components.lora_layers import target_layers
        from methods.components.masked_penalty import top_entries
        from methods.components.weight_difference import changed_entries

        if self.settings.weight_difference:
            share, targets = self.settings.held, self.settings.targets
            return self._weight_difference(
                resources, ["entries", share], lambda folder: changed_entries(model, folder, share, targets)
            )
        task = self._pseudo_task(model, resources)
        layers = target_layers(model, self.settings.targets) if task else ()
        return {
            f"{name}.held": top_entries(task[f"{name}.B"], task[f"{name}.A"], self.settings.held) for name in layers
        }

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """As for LoRA; also remember the penalised entries."""
        from methods.components.lora_layers import lora_ab, lora_layers
        from methods.components.masked_penalty import MaskedNorm

        super().attach(model, prepared)
        self._held = {name.removesuffix(".held"): indices.to(model.device) for name, indices in prepared.items()}
        layers = list(lora_layers(model.module)) if self._held else []
        self._norm = MaskedNorm([(*lora_ab(layer), self._held[name]) for name, layer in layers])

    def penalty(self, model: InjectableModel, batch: Batch, logits: Tensor) -> Tensor | None:
        """RegLoRA's masked norm, if any entries are penalised."""
        return self.settings.coefficient * self._norm() if self._held else None

    def export_stage_state(self, model: InjectableModel) -> Tensors:
        """``<layer>.held``: the indices so far, and those of the entries that this stage changed most."""
        if self.settings.coefficient == 0:
            return {}
        import torch

        from methods.components.lora_layers import lora_ab, lora_layers
        from methods.components.masked_penalty import top_entries

        merged = {}
        for name, layer in lora_layers(model.module):
            a, b = lora_ab(layer)
            indices = top_entries(b, a, self.settings.held)
            merged[f"{name}.held"] = torch.cat([self._held[name], indices] if self._held else [indices]).cpu()
        return merged

    def diagnostics(self, prepared: Tensors) -> dict[str, float]:
        """The numbers of penalised entries and of rewritten conversations; if both are 0, the row is LoRA's."""
        held = float(sum(len(indices) for indices in prepared.values()))
        return {"held entries": held, "rewritten conversations": float(self._rewritten)}
