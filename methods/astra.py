"""Astra: LoRA that starts at the directions in which old outputs have the least energy."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from methods.base import DecoderShapes, InjectableModel, MemoryNeeds, Paper, Tensors, Variant, setting
from methods.components.initialized_lora import InitializedLoRA, InitializedLoRASettings, mean_and_largest

if TYPE_CHECKING:
    from methods.components.covariance import InputCovariance


@dataclasses.dataclass(frozen=True)
class AstraSettings(InitializedLoRASettings):
    """The calibration's settings, and which directions of the outputs are taken."""

    directions: Literal["least", "most"] = setting(
        "least",
        "where outputs have least energy, or most",
        source="paper: tail eigenvectors; its code calls these KPM and IPM, and defaults to IPM",
        choices=("least", "most"),
    )


class Astra(InitializedLoRA):
    """B starts at Q, the r directions in which old outputs have least energy, and A at Q^T W0; both are trained.

    Paper: Liu et al., "Astra: Activation-Space Tail-Eigenvector Low-Rank Adaptation of Large Language Models", Findings
        of ACL 2026, arXiv 2602.19111.
    Interpretation: KORE's constraint on the other side of the matrix, so outputs are those of the run's calibration
        pool, where the paper's are of its new task. Tail eigenvectors are those of the smallest eigenvalues. The
        released code takes the last columns of ``torch.linalg.eigh``, whose eigenvalues ascend: those of the largest,
        which is ``ipm``, after the code's name for it.
    Differences: W0 stays untouched and a frozen copy subtracts B0 A0, where the paper takes it off W0. The covariance
        of outputs is W0 C W0^T from that of inputs: exact without the layer's bias, which no adapter changes; with
        ``norm=official`` samples are weighted by their largest input instead of output. Where a layer has more outputs
        than inputs, Q can be orthogonal to all outputs, and A starts at 0. All layers have one rank: the code's
        allocation of ranks is left out. The projector is trained, as for every row.
    Cost: once, a forward pass over the calibration prompts and an eigendecomposition for each linear layer; training
        then has LoRA's parameters and a second, frozen adapter in the forward pass.
    """

    name = "astra"
    summary = "LoRA that starts at the directions in which old outputs have least energy"
    paper = Paper("Astra: Activation-Space Tail-Eigenvector Low-Rank Adaptation", "https://arxiv.org/abs/2602.19111")
    interpretation = (
        "outputs of the run's calibration pool instead of the new task's; tail eigenvectors are those of the smallest "
        "eigenvalues, where the released code takes the largest (ipm)"
    )
    Settings = AstraSettings
    settings: AstraSettings
    _needs_outputs = True
    variants: ClassVar[Mapping[str, Variant]] = {
        "ipm": Variant({"directions": "most"}, "the directions with most energy, which the released code takes"),
    }

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """As for any such start; before, the covariance of the largest outputs and its eigenvectors in float64."""
        return super().memory_needs(shapes).plus(preparation=2 * 8 * max(d_out for _, d_out in shapes.linears) ** 2)

    def _start(self, model: InjectableModel, inputs: Iterable[InputCovariance]) -> Tensors:
        from methods.components.astra_init import astra_factors

        return astra_factors(model, inputs, self.settings.rank, largest=self.settings.directions == "most")

    def diagnostics(self, prepared: Tensors) -> dict[str, float]:
        """Share of the calibration outputs' energy in the directions of B at the start: mean and largest."""
        return mean_and_largest(prepared, ".energy", "energy of old outputs")
