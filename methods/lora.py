"""LoRA: the plain low-rank adapter that every other method is compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import count, islice
from typing import ClassVar

from benchmarks.records import Conversation, KnowledgeItem
from methods.augmentation import datasets
from methods.base import (
    AdapterSettings,
    Batch,
    InjectableModel,
    InjectionMethod,
    Paper,
    Resources,
    Tensor,
    Variant,
    same_as,
    setting,
)


@dataclasses.dataclass(frozen=True)
class LoRASettings(AdapterSettings):
    """Settings of a low-rank adapter, and how often the data are repeated."""

    data_settings: ClassVar[tuple[str, ...]] = (*AdapterSettings.data_settings, "equal_steps")
    equal_steps: str = setting("", "repeat the data up to the size of these training data", source="ours: a control")
    loss_weights: str = setting(
        "equal",
        "weight of each token in the loss: equal, or entropy (less where the model is sure before it learns)",
        source="entropy: Entropy-Adaptive Fine-Tuning, arXiv 2601.02151",
        choices=("equal", "entropy"),
    )


class LoRA(InjectionMethod):
    """y = W0 x + (alpha / r) B A x on every linear layer of the language decoder; A and B trained, B from zero.

    Paper: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
    Differences: as in LLaVA's script, every linear layer of the decoder is adapted, not only q and v, and the projector
        is trained at a learning rate ten times smaller; dropout is the setting ``dropout``, 0.05 in
        LLaVA's script and in the presets for LLaVA.
    Cost: 2 r (d_in + d_out) extra multiply-adds per layer and token; no preparation. At rank 128 on LLaVA-1.5-7B
        340,795,392 trained parameters, including the projector.
    """

    name = "lora"
    summary = "low-rank adapter on every decoder linear, projector trained"
    paper = Paper("LoRA: Low-Rank Adaptation of Large Language Models", "https://arxiv.org/abs/2106.09685")
    Settings = LoRASettings
    settings: LoRASettings
    variants: ClassVar[Mapping[str, Variant]] = {
        "kore-data": Variant(
            {"data": same_as("kore")}, "trained on the data of this run's KORE: how much of KORE's gain is data"
        ),
        "equal-steps": Variant(
            {"equal_steps": same_as("kore")},
            "our control: as many optimiser steps as the data of this run's KORE give, on the plain knowledge",
        ),
        "entropy-weighted": Variant(
            {"loss_weights": "entropy"},
            "each token weighted by the entropy of its prediction, so that confident ones change little (EAFT)",
        ),
    }

    def training_data(self, knowledge: Sequence[KnowledgeItem], resources: Resources) -> list[Conversation]:
        """The data that the setting names; with ``equal_steps`` repeated up to the size of the data that it names."""
        data = super().training_data(knowledge, resources)
        if not self.settings.equal_steps or not data:
            return data
        target = len(datasets.conversations(self.settings.equal_steps, knowledge, resources.seed, resources.all_items))
        repeated = (dataclasses.replace(sample, id=f"{sample.id}/{epoch}") for epoch in count() for sample in data)
        return list(islice(repeated, max(target, len(data))))

    def loss(self, model: InjectableModel, batch: Batch, logits: Tensor, targets: Tensor) -> tuple[Tensor, float]:
        """Cross-entropy; with ``loss_weights: entropy`` the sum of the weighted tokens, still divided by their number.

        Source: EAFT, arXiv 2601.02151, with K = 20 and exponent 1.
        """
        if self.settings.loss_weights == "equal":
            return super().loss(model, batch, logits, targets)
        from torch.nn import functional

        from methods.components.token_weights import entropy_weights

        losses = functional.cross_entropy(logits, targets, reduction="none")
        return (entropy_weights(logits) * losses).sum(), len(targets)
