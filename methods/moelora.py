"""MoELoRA: the adapter is split into experts, which a router weights for each token."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from methods.base import (
    AdapterSettings,
    Batch,
    Coefficient,
    InjectableModel,
    InjectionMethod,
    LinearShapes,
    Paper,
    Tensor,
    Tensors,
    Variant,
    setting,
)


@dataclasses.dataclass(frozen=True)
class MoELoRASettings(AdapterSettings):
    """LoRA's settings, and those of the experts and their routing."""

    experts: int = setting(8, "number of experts that share the rank", source="CoIN", ge=1)
    top_k: int = setting(
        0, "experts that a token is sent to; 0 weights all of them", source="CoIN: all; Luo et al.: 2", ge=0
    )
    balance: float = setting(0.0, "weight of the load-balancing loss; needs top_k", source="CoIN: none", ge=0)
    contrast: float = setting(0.0, "weight of the contrastive loss between experts", source="CoIN: none", ge=0)
    temperature: float = setting(0.07, "temperature of the contrastive loss", source="ours", gt=0)
    contrast_tokens: int = setting(8, "tokens of a conversation in the contrastive loss", source="ours", ge=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        hint = f"the rank must be a multiple of the number of experts, {self.experts}"
        self.check("rank", self.rank % self.experts == 0, hint)
        self.check("top_k", self.top_k <= self.experts)
        self.check("balance", self.top_k > 0 or self.balance == 0)
        self.check("contrast", self.experts > 1 or self.contrast == 0)


class MoELoRA(InjectionMethod):
    """y = W0 x + s sum_e g_e(x) B_e A_e x with E experts of rank r / E and g = softmax(router x), s = alpha / r.

    Paper: Chen et al., "CoIN: A Benchmark of Continual Instruction Tuning for Multimodal Large Language Models",
        NeurIPS 2024, whose code gives this form; ``top-k`` follows Luo et al., "MoELoRA: Contrastive Learning Guided
        Mixture of Experts on Parameter-Efficient Fine-Tuning for Large Language Models", 2024.
    Interpretation: plain ``moelora`` is the dense router of CoIN's code, which has no auxiliary loss; the formulas and
        coefficients of the two losses in ``top-k`` are ours, since no code of Luo et al. was found.
    Differences: all experts are computed as one projection and weighted along the rank. A is initialised as LoRA's (on
        4,096 inputs with a standard deviation of 0.009; CoIN's is 0.01), and dropout is drawn once, not for each
        expert. ``top-k`` renormalises the two largest gates and adds a load-balancing loss and an InfoNCE over expert
        outputs, each within a conversation, so that they do not depend on how a step is split into micro-batches.
    Cost: LoRA's, and E d_in multiply-adds per layer and token for the router; it cannot be merged into the weights. At
        rank 128 with 8 experts 349,904,896 trained parameters on LLaVA-1.5-7B (rank 125 with 5 experts, 338,993,152, is
        closest to LoRA's). An expert's gradient is scaled by its gate, so LoRA's learning rate is too small: tune it.
    """

    name = "moelora"
    summary = "the adapter split into experts, weighed by a router for each token"
    paper = Paper("MoELoRA: Contrastive Learning Guided Mixture of Experts", "https://arxiv.org/abs/2402.12851")
    interpretation = (
        "the dense router of CoIN's code, which has no auxiliary loss; in top-k those losses are ours; parity has "
        "LoRA's number of parameters, routers included, where CoIN's 8 experts at LoRA's rank have more"
    )
    Settings = MoELoRASettings
    settings: MoELoRASettings
    coefficient = Coefficient("experts", (2, 4, 8))
    variants: ClassVar[Mapping[str, Variant]] = {
        "top-k": Variant(
            {"top_k": 2, "balance": 0.01, "contrast": 0.01},
            "two experts a token, with load balance and contrast between experts (formulas ours)",
        ),
        "parity": Variant(
            {"experts": 5},
            "five experts at a rank, from the preset, with which they and their routers have LoRA's parameters",
            needs={"rank": 125},
        ),
    }

    @property
    def expected_failures(self) -> Mapping[str, str]:
        """Merging into the weights, which a router makes impossible."""
        return {"check_mergeable": "the gates depend on the input"}

    def adapter_parameters(self, layers: LinearShapes) -> int:
        """LoRA's, and a router of E d_in for each layer."""
        return super().adapter_parameters(layers) + self.settings.experts * sum(d_in for d_in, _ in layers)

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """As for LoRA; then split A and B into experts and add a router to each layer."""
        from methods.components.lora_experts import add_experts

        super().attach(model, prepared)
        has_losses = self.settings.balance > 0 or self.settings.contrast > 0
        add_experts(model, self.settings.experts, self.settings.top_k, record=has_losses)

    def load_previous_stage(self, model: InjectableModel, exported: Tensors) -> None:
        """Continue with the same experts and routers."""
        from methods.components.lora_experts import ROUTER, load_routers

        routers = {name: tensor for name, tensor in exported.items() if name.endswith(ROUTER)}
        super().load_previous_stage(model, {name: exported[name] for name in exported.keys() - routers.keys()})
        load_routers(model, routers)

    def penalty(self, model: InjectableModel, batch: Batch, logits: Tensor) -> Tensor | None:
        """The two routing losses: means over layers, and over conversations weighted by their supervised tokens."""
        import torch

        from methods.components.lora_experts import contrastive_loss, get_experts, load_balance_loss
        from methods.components.lora_layers import lora_ab, lora_layers

        settings = self.settings
        if not (settings.balance or settings.contrast):
            return None
        experts, losses = get_experts(model), []
        mask, supervised = batch["attention_mask"], (batch["labels"][:, 1:] != -100).sum(1)
        with torch.autocast(logits.device.type, enabled=False):
            for name, layer in lora_layers(model.module):
                projected, probabilities = experts[name].pop_recorded()
                if settings.balance:
                    losses.append(settings.balance * load_balance_loss(probabilities, mask, settings.top_k))
                if settings.contrast:
                    wide, b = projected.to(probabilities.dtype), lora_ab(layer)[1]
                    loss = contrastive_loss(wide, b, mask, settings.temperature, settings.contrast_tokens)
                    losses.append(settings.contrast * loss)
        return (torch.stack(losses).sum(0) / len(experts) * (supervised / supervised.sum())).sum()

    def export(self, model: InjectableModel) -> Tensors:
        """A and B of all experts, the routers and the projector."""
        from methods.components.lora_experts import export_routers

        return {**super().export(model), **export_routers(model)}

    def restore(self, model: InjectableModel, exported: Tensors) -> None:
        """Attach and load experts and routers."""
        self.attach(model, {})
        self.load_previous_stage(model, exported)
