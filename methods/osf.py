"""OSF: full fine-tuning that leaves the strongest singular directions of the weights as they are."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from methods.base import (
    DecoderShapes,
    InjectableModel,
    MemoryNeeds,
    Paper,
    Resources,
    Tensors,
    setting,
)
from methods.full_ft import FullFT, FullFTSettings
from methods.interfaces import TargetedSettings
from methods.memory import decomposition_bytes

if TYPE_CHECKING:
    import torch

    from methods.components.constrained_factors import ColumnsOff, RowsOff


@dataclasses.dataclass(frozen=True)
class OSFSettings(FullFTSettings, TargetedSettings):
    """Full-FT's settings, and how many directions stay as they are."""

    preserved_share: float = setting(
        0.5,
        "share of each weight's singular directions that is kept, the strongest",
        source="PEFT's default",
        gt=0,
        lt=1,
    )


class OSF(FullFT):
    """W0 + (I - U U^T) D (I - V V^T), D trained in full, with U and V the strongest singular vectors of W0.

    Paper: Nayak et al., "Sculpting Subspaces: Constrained Full Fine-Tuning in LLMs for Continual Learning", 2025, arXiv
        2504.07097.
    Interpretation: half of each weight's directions are kept, as by default in PEFT; the paper's share depends on a
        layer's importance. In later stages they are those of the weights that the previous stage left.
    Differences: the paper and PEFT train the weak part as U S V^T and project the gradients of U and V. The weights
        that can be reached are the same: all whose difference from W0 is orthogonal to the kept directions on both
        sides. Here the weight itself is trained, and after each step its difference is projected, since AdamW would
        turn a projected gradient back into the kept directions. The linear layers of the decoder and the projector are
        trained; embeddings and norms are not.
    Cost: once, a singular value decomposition of each linear layer. Training has full fine-tuning's cost, a float32
        copy of the weights and their kept directions beside it, and four products of d_out x d_in x k a layer and step.
    """

    name = "osf"
    summary = "full fine-tuning orthogonal to the weights' strongest singular directions on both sides"
    paper = Paper("Sculpting Subspaces: Constrained Full Fine-Tuning", "https://arxiv.org/abs/2504.07097")
    interpretation = "half of the directions are kept, as in PEFT; the weights are projected after each step"
    Settings = OSFSettings
    settings: OSFSettings
    _confined: dict[str, tuple[torch.Tensor, ColumnsOff, RowsOff]]
    """Each adapted layer's weight at the start of the stage, and the projections on its two sides."""

    def _kept(self, d_in: int, d_out: int) -> int:
        most = min(d_in, d_out)
        return min(max(1, round(self.settings.preserved_share * most)), most - 1)

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """Weights, gradients and moments of the linear layers; their start, and the kept directions."""
        projector = shapes.projector if self.settings.projector_learning_rate > 0 else 0
        kept = sum(self._kept(d_in, d_out) * (d_in + d_out) for d_in, d_out in shapes.linears)
        needs = MemoryNeeds(shapes.matrices + projector, frozen=shapes.matrices + kept, trains_base=True)
        return needs.plus(preparation=decomposition_bytes(shapes))

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """Compute ``<layer>.left`` (d_out, k) and ``<layer>.right`` (d_in, k) of the weights before this stage."""
        from methods.components.lora_layers import target_pattern
        from methods.components.tensor_digest import tensors_digest
        from methods.components.weight_directions import weight_directions

        targets, share = self.settings.targets, self.settings.preserved_share
        key = {"what": "osf/directions", "share": share, "layers": target_pattern(model, targets)}

        def compute() -> Tensors:
            self.restore(model, resources.stage_state)
            try:
                return weight_directions(model, targets, self._kept, largest=True)
            finally:
                self.detach(model)

        return resources.cached({**key, "earlier": tensors_digest(resources.stage_state)}, compute)

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """Unfreeze the linear layers and the projector, in float32 or wider."""
        from methods.components.constrained_factors import ColumnsOff, RowsOff
        from methods.components.lora_layers import target_layers

        super().attach(model, prepared)
        self._confined = {}
        for name, layer in target_layers(model, self.settings.targets).items():
            left, right = (prepared[f"{name}.{side}"].to(layer.weight) for side in ("left", "right"))
            self._confined[f"{name}.weight"] = layer.weight.detach().clone(), ColumnsOff(left), RowsOff(right)

    def load_previous_stage(self, model: InjectableModel, exported: Tensors) -> None:
        """Start from the weights at the end of the previous stage."""
        super().load_previous_stage(model, exported)
        for name, (start, _, _) in self._confined.items():
            start.copy_(model.module.get_parameter(name).detach())

    def after_step(self, model: InjectableModel, step: int, state: Tensors) -> Tensors:
        """Take what changed in the kept directions out of the weights."""
        for name, (start, left, right) in self._confined.items():
            weight = model.module.get_parameter(name)
            weight.copy_(start + left(right(weight - start)))
        return state

    def export_stage_state(self, model: InjectableModel) -> Tensors:
        """The weights whose directions the next stage keeps."""
        return self.export(model)

    def _copied(self, model: InjectableModel) -> frozenset[str]:
        """The weights of the adapted layers, and the projector's."""
        from methods.components.lora_layers import target_layers

        linears = {f"{name}.weight" for name in target_layers(model, self.settings.targets)}
        return frozenset(
            name for name in super()._copied(model) if name in linears or model.projector in name.split(".")
        )
