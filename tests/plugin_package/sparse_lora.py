"""Sparse LoRA: a method in a separate package, found by its entry point."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from methods.base import AdapterSettings, Coefficient, InjectionMethod, Paper, Variant, setting


@dataclasses.dataclass(frozen=True)
class SparseLoRASettings(AdapterSettings):
    """LoRA's settings, and the weight of the sparsity penalty."""

    sparsity: float = setting(0.01, "weight of the sum of |B|; 0 is LoRA", source="ours", ge=0)


class SparseLoRA(InjectionMethod):
    """LoRA with an L1 penalty that pulls single entries of B to zero.

    Paper: Tibshirani, "Regression Shrinkage and Selection via the Lasso", 1996, for the penalty.
    Differences: applied to the change of a language model's weights.
    Cost: LoRA's, and a few elementwise operations a step.
    """

    name = "sparse-lora"
    summary = "LoRA with an L1 penalty on B"
    paper = Paper(
        "Regression Shrinkage and Selection via the Lasso", "https://doi.org/10.1111/j.2517-6161.1996.tb02080.x"
    )
    Settings = SparseLoRASettings
    settings: SparseLoRASettings
    coefficient = Coefficient("sparsity", (0.001, 0.01, 0.1))
    variants: ClassVar[Mapping[str, Variant]] = {"strong": Variant({"sparsity": 0.1}, "ten times as sparse")}

    def penalty(self, model, batch, logits):
        """The L1 norm of all B."""
        if not self.settings.sparsity:
            return None
        weights = [weight for name, weight in model.module.named_parameters() if "lora_B" in name]
        return self.settings.sparsity * sum(weight.abs().sum() for weight in weights)
