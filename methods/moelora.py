"""MoELoRA: the adapter split into experts, among which a router divides each token."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from methods.base import Coefficient, InjectionMethod, Paper, Variant
from methods.interfaces import AdapterSettings, InjectableModel, setting

if TYPE_CHECKING:
    import torch

    from methods.interfaces import Batch, Tensors


@dataclasses.dataclass(frozen=True)
class MoELoRASettings(AdapterSettings):
    """LoRA's settings, the experts, and what is asked of the routing."""

    experts: int = setting(8, "experts that share the rank", source="CoIN")
    top_k: int = setting(0, "experts that a token is sent to; 0 weighs all of them", source="CoIN: all; Luo et al.: 2")
    balance: float = setting(0.0, "weight of the load balance; needs top_k", source="CoIN: none")
    contrast: float = setting(0.0, "weight of the contrast between experts", source="CoIN: none")
    temperature: float = setting(0.07, "of the contrast", source="ours")
    contrast_tokens: int = setting(8, "tokens of a conversation that the contrast looks at", source="ours")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("experts", self.experts >= 1 and self.rank % self.experts == 0)
        self.check("top_k", 0 <= self.top_k <= self.experts)
        self.check("balance", 0 <= self.balance < float("inf") and (self.top_k > 0 or self.balance == 0))
        self.check("contrast", 0 <= self.contrast < float("inf") and (self.experts > 1 or self.contrast == 0))
        self.check("temperature", 0 < self.temperature < float("inf"))
        self.check("contrast_tokens", self.contrast_tokens >= 2)


class MoELoRA(InjectionMethod):
    """y = W0 x + s sum_e g_e(x) B_e A_e x with E experts of rank r / E and g = softmax(router x), s = alpha / r.

    Paper: Chen et al., "CoIN: A Benchmark of Continual Instruction Tuning for Multimodal Large Language Models",
        NeurIPS 2024, whose code gives this form; ``top-k`` follows Luo et al., "MoELoRA: Contrastive Learning Guided
        Mixture of Experts on Parameter-Efficient Fine-Tuning for Large Language Models", 2024.
    Our reading: plain ``moelora`` is the dense router of CoIN's code, which has no auxiliary loss; the formulas and
        coefficients of the two losses in ``top-k`` are ours, for no code of Luo et al. was found.
    Differences: all experts are one projection, weighted in the rank; A is drawn as LoRA's (on 4,096 inputs its
        deviation is 0.009, CoIN's is 0.01) and dropout is drawn once, not for each expert. ``top-k`` renormalises the
        two largest gates and adds the load balance and an InfoNCE over expert outputs, taken within each conversation,
        so that they do not depend on how a step is cut.
    Cost: LoRA's and a router of E d_in multiply-adds a layer; it cannot be merged into the weights. At rank 128 with 8
        experts 349,904,896 trained parameters on LLaVA-1.5-7B (rank 125 with 5 experts, 338,993,152, is nearest to
        LoRA's). Each expert is moved by its gate's share alone, so LoRA's learning rate is too small: tune it.
    """

    name = "moelora"
    summary = "the adapter split into experts, weighed by a router for each token"
    paper = Paper("MoELoRA: Contrastive Learning Guided Mixture of Experts", "https://arxiv.org/abs/2402.12851")
    interpretation = "the dense router of CoIN's code, which has no auxiliary loss; in top-k those losses are ours"
    Settings = MoELoRASettings
    settings: MoELoRASettings
    coefficient = Coefficient("experts", (2, 4, 8))
    variants: ClassVar[Mapping[str, Variant]] = {
        "top-k": Variant(
            {"top_k": 2, "balance": 0.01, "contrast": 0.01},
            "two experts a token, with load balance and contrast between experts (formulas ours)",
        ),
    }

    @property
    def expected_failures(self) -> Mapping[str, str]:
        """What the contract asks for and a router cannot give."""
        return {"merges": "the gates depend on the input"}

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """LoRA's A and B, split into experts with a router each."""
        from methods.components.lora_experts import add_experts

        super().attach(model, prepared)
        wanted = self.settings.balance > 0 or self.settings.contrast > 0
        add_experts(model, self.settings.experts, self.settings.top_k, keeps=wanted)

    def load_previous_stage(self, model: InjectableModel, earlier: Tensors) -> None:
        """The same experts and routers go on being trained."""
        from methods.components.lora_experts import ROUTER, load_routers

        super().load_previous_stage(
            model, {name: tensor for name, tensor in earlier.items() if not name.endswith(ROUTER)}
        )
        load_routers(model, {name: tensor for name, tensor in earlier.items() if name.endswith(ROUTER)})

    def penalty(self, model: InjectableModel, batch: Batch, logits: torch.Tensor) -> torch.Tensor | None:
        """Load balance and contrast: means over layers, and over conversations by their supervised tokens."""
        import torch

        from methods.components.lora_experts import balance, contrast, experts_of
        from methods.components.lora_layers import lora_ab, lora_layers

        settings, parts, losses = self.settings, experts_of(model), []
        if not (settings.balance or settings.contrast):
            return None
        mask, supervised = batch["attention_mask"], (batch["labels"][:, 1:] != -100).sum(1)
        with torch.autocast(logits.device.type, enabled=False):
            for name, layer in lora_layers(model.module):
                projected, probabilities = parts[name].take()
                if settings.balance:
                    losses.append(settings.balance * balance(probabilities, mask, settings.top_k))
                if settings.contrast:
                    wide, up = projected.to(probabilities.dtype), lora_ab(layer)[1]
                    found = contrast(wide, up, mask, settings.temperature, settings.contrast_tokens)
                    losses.append(settings.contrast * found)
        return (torch.stack(losses).sum(0) / len(parts) * (supervised / supervised.sum())).sum()

    def export(self, model: InjectableModel) -> Tensors:
        """A and B of all experts, the routers, the projector."""
        from methods.components.lora_experts import export_routers

        return {**super().export(model), **export_routers(model)}

    def restore(self, model: InjectableModel, tensors: Tensors) -> None:
        """Experts and routers as exported."""
        self.attach(model, {})
        self.load_previous_stage(model, tensors)
