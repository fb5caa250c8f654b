"""O-LoRA: each stage learns in directions orthogonal to those of earlier stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from methods.base import Batch, Coefficient, InjectableModel, Paper, Resources, Tensor, Tensors, Variant, setting
from methods.components.sequential_lora import SequentialLoRA, SequentialLoRASettings


@dataclasses.dataclass(frozen=True)
class OLoRASettings(SequentialLoRASettings):
    """LoRA's settings, the weight of the orthogonality loss, and the pseudo-task."""

    coefficient: float = setting(
        0.5,
        "weight of the orthogonality loss, as if at rank 8 on 64 layers; 0 is LoRA",
        source="O-LoRA's scripts",
        ge=0,
    )


class OLoRA(SequentialLoRA):
    """A new LoRA in each stage, over the frozen earlier ones, with c sum_i sum |A_i A^T| over their A_i.

    Paper: Wang et al., "Orthogonal Subspace Learning for Language Model Continual Learning", Findings of EMNLP 2023.
    Interpretation: with one stage there is no earlier adapter, so it *is* LoRA, bit for bit. For that case
        ``pseudo-task`` (ours) trains a LoRA on pre-training data first and uses its A as the earlier one; it stays out
        of the forward pass, since the base knows these data already.
    Differences: absolute entries as in the code (the paper squares them), averaged over layers and entries and scaled
        by 8 x 8 x 64, so that the published coefficient means the same at any rank. The code's second term, a norm of
        the adapter, has weight 0 in most of its scripts and is left out. The projector is trained in all stages.
    Cost: one r x d_in x r product per layer and step, and one more LoRA in the forward pass for each earlier stage; for
        ``pseudo-task`` a short training beforehand, on as many samples as Replay uses.
    """

    name = "o-lora"
    summary = "a LoRA for each stage, orthogonal to those before; with one stage the same as LoRA"
    paper = Paper(
        "Orthogonal Subspace Learning for Language Model Continual Learning", "https://arxiv.org/abs/2310.14152"
    )
    interpretation = (
        "with one injection stage there is no earlier adapter and the row is LoRA's; pseudo-task, and the coefficient "
        "on a mean instead of a sum, are ours"
    )
    Settings = OLoRASettings
    settings: OLoRASettings
    coefficient = Coefficient("coefficient", (0.05, 0.5, 5.0))
    variants: ClassVar[Mapping[str, Variant]] = {
        "pseudo-task": Variant({"pseudo_ratio": 0.1}, "orthogonal to a LoRA trained on the replay pool first (ours)"),
    }

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """Return ``<layer>.A`` (rows, d_in), the A of all earlier stages stacked; nothing at the first stage."""
        if self.settings.coefficient == 0:
            return {}
        earlier = resources.stage_state if resources.stage > 1 else self._pseudo_task(model, resources)
        return {name: tensor for name, tensor in earlier.items() if name.endswith(".A")}

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """As for LoRA; also remember the earlier A."""
        super().attach(model, prepared)
        self._earlier = {name.removesuffix(".A"): tensor.to(model.device) for name, tensor in prepared.items()}

    def penalty(self, model: InjectableModel, batch: Batch, logits: Tensor) -> Tensor | None:
        """The overlap of A with the earlier ones, if there are any."""
        if not self._earlier:
            return None
        from methods.components.lora_layers import lora_ab, lora_layers
        from methods.components.orthogonality import PUBLISHED_ENTRIES, mean_overlap

        pairs = [(lora_ab(layer)[0], self._earlier[name]) for name, layer in lora_layers(model.module)]
        return self.settings.coefficient * PUBLISHED_ENTRIES * mean_overlap(pairs)

    def export_stage_state(self, model: InjectableModel) -> Tensors:
        """``<layer>.A``: the earlier A, and this stage's stacked below them."""
        if self.settings.coefficient == 0:
            return {}
        import torch

        from methods.components.lora_layers import lora_ab, lora_layers

        stacked = {}
        for name, layer in lora_layers(model.module):
            a = lora_ab(layer)[0].detach()
            stacked[f"{name}.A"] = torch.cat([self._earlier[name], a] if self._earlier else [a]).cpu()
        return stacked

    def diagnostics(self, prepared: Tensors) -> dict[str, float]:
        """The number of earlier directions per layer; if it is 0, the row is LoRA's."""
        return {"earlier directions": float(max((len(tensor) for tensor in prepared.values()), default=0))}
