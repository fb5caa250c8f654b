"""O-LoRA: each stage learns in directions orthogonal to those of the stages before."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from methods.base import Coefficient, Paper, Variant
from methods.components.sequential_lora import SequentialLoRA, SequentialLoRASettings
from methods.interfaces import InjectableModel, Resources, setting

if TYPE_CHECKING:
    import torch

    from methods.interfaces import Batch, Tensors


@dataclasses.dataclass(frozen=True)
class OLoRASettings(SequentialLoRASettings):
    """LoRA's settings, the weight of the orthogonality, and the pseudo-task."""

    coefficient: float = setting(
        0.5, "weight of the orthogonality, as if at rank 8 on 64 layers; 0 is LoRA", source="O-LoRA's scripts"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("coefficient", 0 <= self.coefficient < float("inf"))


class OLoRA(SequentialLoRA):
    """A new LoRA in each stage, over the frozen earlier ones, with c sum_i sum |A_i A^T| over their A_i.

    Paper: Wang et al., "Orthogonal Subspace Learning for Language Model Continual Learning", Findings of EMNLP 2023.
    Our reading: with one stage nothing is earlier: it *is* LoRA, bit for bit. ``pseudo-task`` (ours) then takes as
        earlier a LoRA trained on old data, which stays out of the forward pass, for the base knows its data already.
    Differences: absolute entries as in the code (the paper squares them), averaged over layers and entries and scaled
        by 8 x 8 x 64, so that the published coefficient means the same at any rank; the code's second term, a norm of
        the adapter, is 0 in most of its scripts and left out. The projector is trained in all stages.
    Cost: one r x d_in x r product a layer and step, and another LoRA of each earlier stage in the forward pass; for
        ``pseudo-task`` a short training beforehand, on as many old samples as Replay sees.
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
        "pseudo-task": Variant({"pseudo_ratio": 0.1}, "orthogonal to a LoRA trained on old data first (ours)"),
    }

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """``<layer>.A`` (rows, d_in): the A of all earlier stages below each other; nothing at the first stage."""
        if self.settings.coefficient == 0:
            return {}
        past = resources.stage_state if resources.stage > 1 else self._pseudo_task(model, resources)
        return {name: tensor for name, tensor in past.items() if name.endswith(".A")}

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """As LoRA; remembers the earlier A."""
        super().attach(model, prepared)
        self._past = {name.removesuffix(".A"): tensor.to(model.device) for name, tensor in prepared.items()}

    def penalty(self, model: InjectableModel, batch: Batch, logits: torch.Tensor) -> torch.Tensor | None:
        """The overlap of A with the earlier ones; nothing where there are none."""
        if not self._past:
            return None
        from methods.components.lora_layers import lora_ab, lora_layers
        from methods.components.orthogonality import PUBLISHED_ENTRIES, mean_overlap

        pairs = [(lora_ab(layer)[0], self._past[name]) for name, layer in lora_layers(model.module)]
        return self.settings.coefficient * PUBLISHED_ENTRIES * mean_overlap(pairs)

    def export_stage_state(self, model: InjectableModel) -> Tensors:
        """``<layer>.A``: the earlier A and, below them, this stage's."""
        if self.settings.coefficient == 0:
            return {}
        import torch

        from methods.components.lora_layers import lora_ab, lora_layers

        found = {}
        for name, layer in lora_layers(model.module):
            now = lora_ab(layer)[0].detach()
            found[f"{name}.A"] = torch.cat([self._past[name], now] if self._past else [now]).cpu()
        return found

    def diagnostics(self, prepared: Tensors) -> dict[str, float]:
        """How many earlier directions a layer is held orthogonal to: 0 says that the row is LoRA's."""
        return {"earlier directions": float(max((len(tensor) for tensor in prepared.values()), default=0))}
