"""LoRA-Null: an adapter that starts in the null space of old activations."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar

from methods.base import InjectableModel, Paper, Tensors, Variant, setting
from methods.components.initialized_lora import (
    InitializedLoRA,
    InitializedLoRASettings,
    mean_and_largest,
    refuse_decay_and_dropout,
)

if TYPE_CHECKING:
    from methods.components.covariance import InputCovariance


@dataclasses.dataclass(frozen=True)
class LoRANullSettings(InitializedLoRASettings):
    """The calibration's settings, and whether A is frozen."""

    freeze_a: bool = setting(False, "train B alone: version 2 of the method", source="LoRA-Null-v2")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.freeze_a:
            refuse_decay_and_dropout(self, "lora-null")


class LoRANull(InitializedLoRA):
    """W0 P = U S V^T with P the projection onto the null space of old inputs; B starts at U sqrt(S), A at sqrt(S) V^T.

    Paper: Tang et al., "Put the Space of LoRA Initialization to the Extreme to Preserve Pre-trained Knowledge", AAAI
        2026, arXiv 2503.02659 (first version: "LoRA-Null: Low-Rank Adaptation via Null Space").
    Interpretation: the null space is that of the run's calibration pool, pictures included, where the paper calibrates
        a language model on questions of NQ-open. ``v2`` freezes A, as the authors' version 2.
    Differences: W0 stays untouched and a frozen copy subtracts B0 A0; for ``v2`` B starts at 0, which trains the same.
        ``norm=token-mean`` averages over tokens; their code divides each sample by its largest entry
        (``norm=official``, as in the real presets). The projector is trained, as for every row. KORE's constraint is
        this method: ``v2`` trains as ``kore:no-augmentation`` does at the same rank and rate, and the plain method as
        ``kore:unfrozen-a`` on the same data; on KORE's data ``v2`` is ``kore``.
    Cost: once, a forward pass over the calibration prompts and four eigendecompositions per decoder layer; training
        then has LoRA's parameters and a second, frozen adapter in the forward pass. ``v2`` trains B alone and needs
        less memory than LoRA.
    """

    name = "lora-null"
    summary = "LoRA that starts in the null space of old activations; v2 keeps its A there"
    paper = Paper(
        "Put the Space of LoRA Initialization to the Extreme to Preserve Pre-trained Knowledge",
        "https://arxiv.org/abs/2503.02659",
    )
    interpretation = (
        "calibrated on the run's calibration pool instead of NQ-open; W0 stays untouched, which trains the same; norm "
        "token-mean is the paper's formula, norm official what the code does"
    )
    Settings = LoRANullSettings
    settings: LoRANullSettings
    variants: ClassVar[Mapping[str, Variant]] = {
        "v2": Variant(
            {"freeze_a": True}, "the authors' version 2: A frozen, B trained alone", retune=("learning_rate", "rank")
        ),
    }

    @property
    def _trains_a(self) -> bool:
        return not self.settings.freeze_a

    def _start(self, model: InjectableModel, inputs: Iterable[InputCovariance]) -> Tensors:
        from methods.components.kore_init import initial_factors

        return initial_factors(model, inputs, self.settings.rank, with_b=self._trains_a)

    def diagnostics(self, prepared: Tensors) -> dict[str, float]:
        """Share of the calibration inputs' energy that A reads at the start: mean and largest over the layers."""
        return mean_and_largest(prepared, ".leaked", "leaked energy")
