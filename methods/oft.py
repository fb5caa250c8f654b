"""OFT: the weights' inputs are rotated, which keeps all angles between a layer's neurons."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from benchmarks.errors import UserError
from methods.base import (
    DecoderShapes,
    InjectableModel,
    InjectionMethod,
    LinearShapes,
    MemoryNeeds,
    Paper,
    Tensors,
    Variant,
    setting,
)
from methods.interfaces import TargetedSettings

FACTOR = ".oft_R."
"""Part of the names of the rotations' parameters, which are 0 where nothing is rotated."""


@dataclasses.dataclass(frozen=True)
class OFTSettings(TargetedSettings):
    """Size and form of the rotations."""

    block_size: int = setting(
        32,
        "inputs that one rotation mixes, at most: the largest number up to this that divides every layer's inputs",
        source="PEFT's default",
        ge=2,
    )
    neumann: bool = setting(
        False,
        "rotate by the first terms of a series: faster, and not quite orthogonal",
        source="OFTv2",
    )


class OFT(InjectionMethod):
    """y = W0 R x with R block-diagonal and orthogonal, trained from the identity: lengths and angles of W0's rows stay.

    Paper: Qiu et al., "Controlling Text-to-Image Diffusion by Orthogonal Finetuning", NeurIPS 2023, arXiv 2306.07280;
        ``v2``: Qiu et al., "Orthogonal Finetuning Made Scalable", EMNLP 2025, arXiv 2506.19847.
    Differences: PEFT's implementation, which rotates the inputs instead of the weight, with the Cayley transform of a
        skew-symmetric matrix for each block; ``v2`` takes five terms of its Neumann series. All linear layers of the
        decoder are rotated, and the projector is trained, as for every row. A row scaled by F has the skew-symmetric
        matrices times F: again a rotation.
    Cost: d_in (b - 1) / 2 parameters a layer at block size b, and a product of d_in x b for each token; the rotated
        inputs are kept for the backward pass. No data and no decomposition.
    """

    name = "oft"
    summary = "inputs of every decoder linear rotated by blocks, projector trained"
    paper = Paper("Controlling Text-to-Image Diffusion by Orthogonal Finetuning", "https://arxiv.org/abs/2306.07280")
    Settings = OFTSettings
    settings: OFTSettings
    variants: ClassVar[Mapping[str, Variant]] = {
        "v2": Variant({"neumann": True}, "OFTv2: the Cayley transform by five terms of its Neumann series"),
    }

    def adapter_parameters(self, layers: LinearShapes) -> int:
        """A skew-symmetric matrix for each block."""
        widths = [d_in for d_in, _ in layers]
        return sum(widths) * (self._block_size(widths) - 1) // 2

    def _block_size(self, widths: Sequence[int]) -> int:
        """The largest size that divides the inputs of all layers.

        Raises:
            UserError: There is none.
        """
        common = math.gcd(*widths)
        sizes = [size for size in range(2, self.settings.block_size + 1) if common % size == 0]
        if not sizes:
            raise UserError(
                f"no block of 2 to {self.settings.block_size} inputs divides those of all layers ({common} does)",
                location="setting block_size",
                hint="choose a larger size",
            )
        return sizes[-1]

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """The rotations; each layer keeps a rotated copy of its input, as it would a masked one for dropout."""
        projector = shapes.projector if self.settings.projector_learning_rate > 0 else 0
        return MemoryNeeds(self.adapter_parameters(shapes.linears) + projector, dropout=True)

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """Insert PEFT's layers, which rotate by the identity."""
        from peft import OFTConfig

        from methods.components.lora_layers import target_layers, target_pattern
        from methods.components.peft_tuner import attach_tuner

        targets = self.settings.targets
        widths = [layer.in_features for layer in target_layers(model, targets).values()]
        trains_projector = self.settings.projector_learning_rate > 0
        config = OFTConfig(
            oft_block_size=self._block_size(widths),
            target_modules=target_pattern(model, targets),
            modules_to_save=[model.projector] if trains_projector else None,
            use_cayley_neumann=self.settings.neumann,
        )
        attach_tuner(model, config)

    def load_previous_stage(self, model: InjectableModel, exported: Tensors) -> None:
        """Train the same rotations further."""
        from methods.components.peft_tuner import load_tuner

        load_tuner(model, exported)

    def export(self, model: InjectableModel) -> Tensors:
        """The rotations' parameters and the projector."""
        from methods.components.peft_tuner import export_tuner

        return export_tuner(model)

    def restore(self, model: InjectableModel, exported: Tensors) -> None:
        """Insert and load the rotations."""
        from methods.components.peft_tuner import load_tuner

        self.attach(model, {})
        load_tuner(model, exported)

    def scale_update(self, model: InjectableModel, exported: Tensors, factor: float) -> Tensors:
        """The skew-symmetric matrices times the factor, the projector on the line from the base."""
        scaled = super().scale_update(model, exported, factor)
        return {name: tensor * factor if FACTOR in name else tensor for name, tensor in scaled.items()}
