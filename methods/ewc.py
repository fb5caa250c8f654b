"""EWC: what mattered to the old data is held back by a quadratic spring."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from methods.base import AdapterSettings, InjectableModel, InjectionMethod, Paper, Resources, Variant, setting

if TYPE_CHECKING:
    import torch

    from methods.base import Batch, Tensors

VERSION = 1
"""Part of the key under which the Fisher information is cached; raise it when the mathematics changes."""


@dataclasses.dataclass(frozen=True)
class EWCSettings(AdapterSettings):
    """LoRA's settings and those of the penalty."""

    coefficient: float = setting(400.0, "lambda in lambda / 2 F (theta - theta*)^2; 0 is LoRA", source="TRACE: 400")
    fisher_samples: int = setting(256, "old samples behind the Fisher information", unit="samples", source="ours")
    space: Literal["parameters", "weights"] = setting(
        "parameters", "what is held: B, or the weight change", source="ours"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("coefficient", 0 <= self.coefficient < float("inf"))
        self.check("fisher_samples", self.fisher_samples >= 1)
        self.check("space", self.space in ("parameters", "weights"))


class EWC(InjectionMethod):
    """LoRA with lambda / 2 sum F (theta - theta*)^2 over theta = (B, projector); theta* is the start.

    Paper: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017.
    Differences: lambda / 2 as in the paper (mammoth and avalanche drop the half). F is the empirical Fisher information
        on samples of the base's own training data, each sample's mean token loss squared by itself, in eval mode, at
        the start. There B = 0, so F of A is exactly 0 and A is free. ``weight-space`` holds s B A instead, by
        F_ij ~ a_i c_j for the frozen weights.
    Cost: once, a forward and backward pass for each old sample; F in float32 for B and projector, 0.78 GB at rank 128
        on LLaVA-1.5-7B. A few elementwise operations a step.
    """

    name = "ewc"
    summary = "LoRA held to its start by the Fisher information of old data"
    paper = Paper("Overcoming catastrophic forgetting in neural networks", "https://arxiv.org/abs/1612.00796")
    our_reading = "with one injection stage, F is taken on the base's training data at B = 0; lambda is TRACE's"
    Settings = EWCSettings
    settings: EWCSettings
    variants: ClassVar[Mapping[str, Variant]] = {
        "weight-space": Variant({"space": "weights"}, "holds the change of the weights, by a factored Fisher (ours)"),
    }

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """``fisher/<parameter>`` for B and projector; in weight space ``a/<layer>`` and ``c/<layer>`` for the layers.

        The adapter is attached for the purpose as it will be for training: its A follows the seed.
        """
        if self.settings.coefficient == 0:
            return {}
        import torch

        from methods.calibration import content_digest

        samples = resources.old_data(self.settings.fisher_samples, "fisher")
        key = {
            "what": "ewc/fisher",
            "version": VERSION,
            "rank": self.settings.rank,
            "alpha": self.settings.alpha,
            "space": self.settings.space,
            "projector": self.settings.projector_learning_rate > 0,
            "seed": torch.initial_seed(),
            "samples": content_digest(samples),
        }

        def compute() -> Tensors:
            from methods.fisher import diagonal_fisher, weight_factors

            super(EWC, self).attach(model, {})
            try:
                fisher = diagonal_fisher(model, samples)
                factors = weight_factors(model, samples) if self.settings.space == "weights" else {}
            finally:
                self.detach(model)
            held = {f"fisher/{name}": tensor for name, tensor in fisher.items() if self._held(name)}
            for name, (a, c) in factors.items():
                held |= {f"a/{name}": a, f"c/{name}": c}
            return {name: tensor.cpu() for name, tensor in held.items()}

        return resources.cached(key, compute)

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """As LoRA; remembers F and where training starts."""
        super().attach(model, prepared)
        self._prepared = {name: tensor.to(model.device) for name, tensor in prepared.items()}
        self._springs = [
            (parameter, parameter.detach().clone(), self._prepared[f"fisher/{name}"])
            for name, parameter in model.module.named_parameters()
            if f"fisher/{name}" in prepared
        ]

    def penalty(self, model: InjectableModel, batch: Batch, logits: torch.Tensor) -> torch.Tensor | None:
        """The spring: lambda / 2 sum F (theta - theta*)^2."""
        if self.settings.coefficient == 0:
            return None
        from methods.fisher import adapter_factors, factored_penalty

        held = [(fisher * (now - start).square()).sum() for now, start, fisher in self._springs]
        if self.settings.space == "weights":
            for name, down, up, scaling in adapter_factors(model):
                a, c = self._prepared[f"a/{name}"], self._prepared[f"c/{name}"]
                held.append(scaling**2 * factored_penalty(a, c, up, down))
        return self.settings.coefficient / 2 * sum(held[1:], start=held[0])

    def _held(self, parameter: str) -> bool:
        """Whether the diagonal holds it: never A; B only in parameter space."""
        if "lora_A" in parameter:
            return False
        return "lora_B" not in parameter or self.settings.space == "parameters"
