"""SEFE: answers in several styles, and the largest changes of earlier stages held."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from benchmarks.records import Conversation, KnowledgeItem
from methods.base import Coefficient, Paper, Variant
from methods.components.sequential_lora import SequentialLoRA, SequentialLoRASettings
from methods.interfaces import InjectableModel, Resources, setting

if TYPE_CHECKING:
    import torch

    from methods.interfaces import Batch, Tensors


@dataclasses.dataclass(frozen=True)
class SEFESettings(SequentialLoRASettings):
    """LoRA's settings, those of answer styles and RegLoRA, and the pseudo-task."""

    coefficient: float = setting(2500.0, "weight of RegLoRA's penalty; 0 leaves it out", source="SEFE: 2.5e3")
    held: float = setting(0.02, "share of a layer's entries that are held", source="SEFE: top 2 %")
    rewritten: float = setting(0.2, "share of the items asked for in another style", source="SEFE's train_x20")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("coefficient", 0 <= self.coefficient < float("inf"))
        self.check("held", 0 < self.held <= 1)
        self.check("rewritten", 0 <= self.rewritten <= 1)


class SEFE(SequentialLoRA):
    """Answer-style diversification, and c mean |(B A)_ij| over the entries that earlier stages changed most (RegLoRA).

    Paper: Chen et al., "SEFE: Superficial and Essential Forgetting Eliminator for Multimodal Continual Instruction
        Tuning", ICML 2025.
    Our reading: the styles are written by template, without a language model, hence SEFE-lite, and split evenly. With
        one stage there is no earlier adapter, so only the styles remain; ``pseudo-task`` (ours) then holds the entries
        that a LoRA trained on old data changes most.
    Differences: the penalty is averaged
        over the model's own number of layers, where the code has 224. Earlier adapters stay beside the base, frozen,
        instead of being merged into it: the same function.
    Cost: from the second stage on, B A of every layer once an optimiser step (1.7 TFLOP forward at rank 128 on
        LLaVA-1.5-7B) and 0.5 GB of int32 places for each earlier stage; A and B's gradients once more. For
        ``pseudo-task`` also a short training beforehand, on as many old samples as Replay sees.
    """

    name = "sefe"
    summary = "SEFE-lite: answers in several styles, by template; the largest earlier changes held"
    paper = Paper("SEFE: Superficial and Essential Forgetting Eliminator", "https://arxiv.org/abs/2505.02486")
    interpretation = (
        "templates instead of a language model write the answer styles, split evenly; with one injection stage the "
        "penalty has nothing to hold; pseudo-task is ours"
    )
    Settings = SEFESettings
    settings: SEFESettings
    coefficient = Coefficient("coefficient", (25.0, 250.0, 2500.0))
    variants: ClassVar[Mapping[str, Variant]] = {
        "pseudo-task": Variant({"pseudo_ratio": 0.1}, "holds what a LoRA trained on old data changes most (ours)"),
    }

    _rewritten = 0

    def training_data(self, knowledge: Sequence[KnowledgeItem], resources: Resources) -> list[Conversation]:
        """As LoRA, with a share of the descriptions asked for in other styles; no more conversations than LoRA's."""
        from methods.augmentation.answer_styles import restyle

        plain = super().training_data(knowledge, resources)
        styled = restyle(knowledge, plain, self.settings.rewritten, resources.seed)
        self._rewritten = sum(after is not before for before, after in zip(plain, styled, strict=True))
        return styled

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """``<layer>.held``: places, int32, of what earlier stages changed most; nothing at the first stage."""
        if self.settings.coefficient == 0:
            return {}
        if resources.stage > 1:
            return resources.stage_state
        from methods.components.lora_layers import target_layers
        from methods.components.masked_penalty import top_entries

        past = self._pseudo_task(model, resources)
        layers = target_layers(model) if past else ()
        return {
            f"{name}.held": top_entries(past[f"{name}.B"], past[f"{name}.A"], self.settings.held) for name in layers
        }

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """As LoRA; remembers what is held."""
        from methods.components.lora_layers import lora_ab, lora_layers
        from methods.components.masked_penalty import MaskedNorm

        super().attach(model, prepared)
        self._held = {name.removesuffix(".held"): places.to(model.device) for name, places in prepared.items()}
        layers = list(lora_layers(model.module)) if self._held else []
        self._norm = MaskedNorm([(*lora_ab(layer), self._held[name]) for name, layer in layers])

    def penalty(self, model: InjectableModel, batch: Batch, logits: torch.Tensor) -> torch.Tensor | None:
        """RegLoRA's masked norm, formed once an optimiser step; nothing where nothing is held."""
        return self.settings.coefficient * self._norm() if self._held else None

    def export_stage_state(self, model: InjectableModel) -> Tensors:
        """``<layer>.held``: the places held so far and those that this stage changed most."""
        if self.settings.coefficient == 0:
            return {}
        import torch

        from methods.components.lora_layers import lora_ab, lora_layers
        from methods.components.masked_penalty import top_entries

        found = {}
        for name, layer in lora_layers(model.module):
            down, up = lora_ab(layer)
            places = top_entries(up, down, self.settings.held)
            found[f"{name}.held"] = torch.cat([self._held[name], places] if self._held else [places]).cpu()
        return found

    def diagnostics(self, prepared: Tensors) -> dict[str, float]:
        """How many entries are held, and how many conversations have another style: with neither, it is LoRA."""
        held = float(sum(len(places) for places in prepared.values()))
        return {"held entries": held, "rewritten conversations": float(self._rewritten)}
