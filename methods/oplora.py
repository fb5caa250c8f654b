"""OPLoRA: LoRA that leaves the strongest directions of the weights as they are."""

from __future__ import annotations

import dataclasses

from methods.base import (
    AdapterSettings,
    DecoderShapes,
    InjectableModel,
    InjectionMethod,
    LinearShapes,
    MemoryNeeds,
    Paper,
    Resources,
    Tensors,
    setting,
)
from methods.memory import decomposition_bytes
from methods.targets import check_rank


@dataclasses.dataclass(frozen=True)
class OPLoRASettings(AdapterSettings):
    """LoRA's settings, and how many directions stay as they are."""

    preserved: int = setting(
        0, "singular directions of each weight that are kept; 0: as many as the rank", source="ours", ge=0
    )


class OPLoRA(InjectionMethod):
    """W0 + (alpha / r) P_L B A P_R, with P_L = I - U U^T, P_R = I - V V^T and U, V the top k singular vectors of W0.

    Paper: Xiong and Xie, "OPLoRA: Orthogonal Projection LoRA Prevents Catastrophic Forgetting during
        Parameter-Efficient Fine-Tuning", AAAI 2026, arXiv 2510.13003.
    Interpretation: after its abstract, which gives the formula; k is ours, and as large as the rank. The k largest
        singular triples of W0 are singular triples of the trained weight exactly.
    Differences: the projections are applied to A and B instead of to activations, which is the same product. All linear
        layers of the decoder are adapted, and the projector is trained, as for every row.
    Cost: once, a singular value decomposition of each linear layer; no data. Training then has LoRA's parameters, U and
        V beside them, and two products of r x d x k per factor and step.
    """

    name = "oplora"
    summary = "LoRA whose update is orthogonal to the weights' top singular directions on both sides"
    paper = Paper("OPLoRA: Orthogonal Projection LoRA", "https://arxiv.org/abs/2510.13003")
    interpretation = "the number of preserved directions is ours: the adapter's rank"
    Settings = OPLoRASettings
    settings: OPLoRASettings

    @property
    def _preserved(self) -> int:
        return self.settings.preserved or self.settings.rank

    def validate_layers(self, layers: LinearShapes) -> None:
        """Also refuse to preserve all directions of a layer, which leaves nothing to train."""
        super().validate_layers(layers)
        check_rank(self.adapted(layers), self._preserved, outputs=True, below=True)

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """As for LoRA, and U and V; before, one layer's singular vectors in float64."""
        frozen = self._preserved * sum(d_in + d_out for d_in, d_out in shapes.linears)
        return super().memory_needs(shapes).plus(frozen=frozen, preparation=decomposition_bytes(shapes))

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """Compute ``<layer>.left`` (d_out, k) and ``<layer>.right`` (d_in, k) of the weights."""
        from methods.components.lora_layers import target_pattern
        from methods.components.weight_directions import weight_directions

        targets, count = self.settings.targets, self._preserved
        key = {"what": "oplora/directions", "count": count, "layers": target_pattern(model, targets)}
        return resources.cached(key, lambda: weight_directions(model, targets, count, largest=True))

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """As for LoRA, with A and B confined."""
        from methods.components.constrained_factors import ColumnsOff, RowsOff, constrain
        from methods.components.lora_layers import attach_lora

        attach_lora(model, self.settings)
        constrain(model, "lora_A", RowsOff, prepared, ".right")
        constrain(model, "lora_B", ColumnsOff, prepared, ".left")

    def load_previous_stage(self, model: InjectableModel, exported: Tensors) -> None:
        """Train the same adapter further, still confined."""
        from methods.components.constrained_factors import load_constrained

        load_constrained(model, exported)
