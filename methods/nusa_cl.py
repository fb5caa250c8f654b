"""NuSA-CL: an update within the weakest directions of the weights, found without data."""

from __future__ import annotations

import dataclasses

from methods.base import (
    DecoderShapes,
    InjectableModel,
    InjectionMethod,
    LinearShapes,
    MemoryNeeds,
    Paper,
    Resources,
    Tensors,
)
from methods.memory import decomposition_bytes
from methods.targets import check_rank


class NuSACL(InjectionMethod):
    """W0 + U M V^T with U, V the singular vectors of the r smallest singular values of W0; M (r, r) trained, from 0.

    Paper: Jo and Kim, "Memory-Free Continual Learning with Null Space Adaptation for Zero-Shot Vision-Language Models",
        ICLR 2026, arXiv 2510.21175.
    Interpretation: after its abstract, which confines a low-rank update to an approximate null space of the weights;
        the form U M V^T is ours: every update within that space on both sides. The paper adapts CLIP, and here the
        language decoder is adapted, as for every row.
    Differences: later stages train the same M further, within the null space of the base, where the paper merges the
        update and takes the null space again. ``alpha`` has no effect, since the scaling is 1. The projector is
        trained.
    Cost: once, a singular value decomposition of each linear layer; no data. Training r^2 parameters a layer needs less
        memory than LoRA; `--set nusa-cl.rank=parity:lora` chooses the rank at which it trains as many.
    """

    name = "nusa-cl"
    summary = "update within the weights' weakest singular directions on both sides; no data behind the constraint"
    paper = Paper("Memory-Free Continual Learning with Null Space Adaptation", "https://arxiv.org/abs/2510.21175")
    interpretation = (
        "trains M of U M V^T, U and V the weakest singular directions of the base; later stages stay within them"
    )

    def validate_layers(self, layers: LinearShapes) -> None:
        """Also refuse a rank at which the update is not confined at all."""
        super().validate_layers(layers)
        check_rank(self.adapted(layers), self.adapter_settings.rank, outputs=True, below=True)

    def adapter_parameters(self, layers: LinearShapes) -> int:
        """M of each layer."""
        return self.adapter_settings.rank**2 * len(layers)

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """M, and U and V beside it, which keep no inputs; before, one layer's singular vectors in float64."""
        frozen = self.adapter_settings.rank * sum(d_in + d_out for d_in, d_out in shapes.linears)
        needs = super().memory_needs(shapes).plus(frozen=frozen, preparation=decomposition_bytes(shapes))
        return dataclasses.replace(needs, keeps_inputs=self.adapter_settings.dropout > 0)

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """Compute ``<layer>.left`` (d_out, r) and ``<layer>.right`` (d_in, r) of the weights."""
        from methods.components.lora_layers import target_pattern
        from methods.components.weight_directions import weight_directions

        targets, rank = self.adapter_settings.targets, self.adapter_settings.rank
        key = {"what": "nusa-cl/directions", "count": rank, "layers": target_pattern(model, targets)}
        return resources.cached(key, lambda: weight_directions(model, targets, rank, largest=False))

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """A = V^T frozen, and B = U M."""
        from methods.components.constrained_factors import ColumnsWithin, constrain
        from methods.components.lora_layers import lora_ab, lora_layers

        self._attach_adapter(model)
        for name, layer in lora_layers(model.module):
            lora_ab(layer)[0].data.copy_(prepared[f"{name}.right"].T)
        constrain(model, "lora_B", ColumnsWithin, prepared, ".left")

    def load_previous_stage(self, model: InjectableModel, exported: Tensors) -> None:
        """Train the same M further."""
        from methods.components.constrained_factors import load_constrained

        load_constrained(model, exported)

    def restore(self, model: InjectableModel, exported: Tensors) -> None:
        """Attach and load A and B."""
        from methods.components.lora_layers import load_adapter

        self._attach_adapter(model)
        load_adapter(model, exported)

    def _attach_adapter(self, model: InjectableModel) -> None:
        from methods.components.lora_layers import attach_lora, freeze_a

        attach_lora(model, self.adapter_settings, scaling=1.0)
        freeze_a(model)
