"""CorDA in its knowledge-preserved mode: LoRA on the components of the weights that old inputs use least."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from methods.base import DecoderShapes, InjectableModel, MemoryNeeds, Paper, Tensors, setting
from methods.components.initialized_lora import InitializedLoRA, InitializedLoRASettings, mean_and_largest
from methods.memory import decomposition_bytes

if TYPE_CHECKING:
    from methods.components.covariance import InputCovariance


@dataclasses.dataclass(frozen=True)
class CordaSettings(InitializedLoRASettings):
    """The calibration's settings, and the damping of the covariance."""

    norm: Literal["token-mean", "official"] = setting(
        "official",
        "how tokens are weighted in the covariance",
        source="CorDA's code: /|max X|; its scale decides how large B starts beside A",
        choices=("token-mean", "official"),
    )
    damping: float = setting(
        0.01, "share of the covariance's mean diagonal that is added to its diagonal", source="CorDA's code", gt=0
    )


class Corda(InitializedLoRA):
    """B = U sqrt(S) and A = sqrt(S) V^T C^-1 of the r smallest components of W0 C = U S V^T, C of old inputs, to start.

    Paper: Yang et al., "CorDA: Context-Oriented Decomposition Adaptation of Large Language Models for Task-Aware
        Parameter-Efficient Fine-tuning", NeurIPS 2024, arXiv 2406.05223.
    Interpretation: the knowledge-preserved mode, whose covariances are of the knowledge to keep: here of the run's
        calibration pool, where the paper samples questions of TriviaQA or NQ-open. Their samples are weighted as in the
        authors' code, since the split of the start between B and A depends on the scale of C.
    Differences: W0 stays untouched and a frozen copy subtracts B0 A0, where the paper takes it off W0. Computed
        layer by layer in float64, also over a quantised base; PEFT's ``init_lora_weights="corda"`` gives the same
        start, but in float32, with all covariances in memory at once and into the base's own weights. The damping is
        fixed, where their code doubles it after a poor inverse in float32. The projector is trained.
    Cost: once, a forward pass over the calibration prompts and a full singular value decomposition of each linear
        layer; training then has LoRA's parameters and a second, frozen adapter in the forward pass.
    """

    name = "corda"
    summary = "LoRA that starts at the weights' components which old inputs use least (knowledge-preserved mode)"
    paper = Paper("CorDA: Context-Oriented Decomposition Adaptation", "https://arxiv.org/abs/2406.05223")
    interpretation = (
        "knowledge-preserved mode, calibrated on the run's calibration pool weighted as in the authors' code; W0 "
        "stays untouched, which trains the same"
    )
    Settings = CordaSettings
    settings: CordaSettings
    _needs_outputs = True

    def _start(self, model: InjectableModel, inputs: Iterable[InputCovariance]) -> Tensors:
        from methods.components.corda_init import corda_factors

        return corda_factors(model, inputs, self.settings.rank, self.settings.damping)

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """As for any such start; before, also W0 C of the largest layer and its singular vectors in float64."""
        return super().memory_needs(shapes).plus(preparation=decomposition_bytes(shapes))

    def diagnostics(self, prepared: Tensors) -> dict[str, float]:
        """Share of the calibration inputs' energy that A reads at the start: mean and largest over the layers."""
        return mean_and_largest(prepared, ".leaked", "leaked energy")
