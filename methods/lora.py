"""LoRA: the plain low-rank adapter that every other method is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from methods.base import InjectionMethod, Paper, Variant


class LoRA(InjectionMethod):
    """y = W0 x + (alpha / r) B A x on every linear layer of the language decoder; A and B trained, B from zero.

    Paper: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
    Differences: as in LLaVA's own script every decoder linear is adapted, not only q and v, and the projector is
        trained at its own, ten times smaller learning rate; dropout is 0 rather than 0.05, so that runs compare.
    Cost: 2 r (d_in + d_out) extra multiply-adds a layer and token; no preparation. At rank 128 on LLaVA-1.5-7B
        340,795,392 trained parameters, projector included.
    """

    name = "lora"
    summary = "low-rank adapter on every decoder linear, projector trained"
    paper = Paper("LoRA: Low-Rank Adaptation of Large Language Models", "https://arxiv.org/abs/2106.09685")
    variants: ClassVar[Mapping[str, Variant]] = {
        "kore-data": Variant({"data": "kore"}, "trained on KORE's augmented data: how much of KORE's gain is data"),
    }
