"""EWC: what mattered to the old data is held back by a quadratic spring."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from benchmarks.records import Conversation, KnowledgeItem
from methods.base import Coefficient, InjectionMethod, Paper, Variant
from methods.interfaces import AdapterSettings, InjectableModel, Resources, setting

if TYPE_CHECKING:
    import torch

    from methods.components.fisher import Factors
    from methods.interfaces import Batch, Tensors


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
    """LoRA with lambda / 2 sum F (theta - theta*)^2 over theta = (B, projector); theta* is the start of the stage.

    Paper: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017.
    Our reading: the old data of the first stage are a sample of the base's own training data; lambda is TRACE's.
    Differences: lambda / 2 as in the paper (mammoth and avalanche drop the half). F is the empirical Fisher matrix:
        the gradient of each sample's mean token loss, squared by itself, in eval mode, at the start. There B = 0, so F
        of A is exactly 0 and A is free. ``weight-space`` (ours) holds s B A instead, by F_ij ~ a_i c_j. Each later
        stage adds the F of the stage before it, A's included, and starts from its end: one spring to the latest
        theta*, as in Schwarz et al. 2018, without their decay.
    Cost: once, a forward and backward pass for each old sample, after each stage for as many of its own; F in float32
        for B and projector, 0.78 GB at rank 128 on LLaVA-1.5-7B. A few elementwise operations a step.
    """

    name = "ewc"
    summary = "LoRA held to its start by the Fisher information of old data"
    paper = Paper("Overcoming catastrophic forgetting in neural networks", "https://arxiv.org/abs/1612.00796")
    interpretation = "with one injection stage, F is taken on the base's training data at B = 0; lambda is TRACE's"
    Settings = EWCSettings
    settings: EWCSettings
    coefficient = Coefficient("coefficient", (40.0, 400.0, 4000.0))
    variants: ClassVar[Mapping[str, Variant]] = {
        "weight-space": Variant(
            {"space": "weights"}, "holds the change of the weights by a factored Fisher (ours)", retune=("coefficient",)
        ),
    }
    _samples: Sequence[Conversation] = ()

    def training_data(self, knowledge: Sequence[KnowledgeItem], resources: Resources) -> list[Conversation]:
        """As LoRA; evenly spaced samples of it are what the next stage should not forget."""
        data = super().training_data(knowledge, resources)
        self._samples = data[:: max(1, len(data) // self.settings.fisher_samples)][: self.settings.fisher_samples]
        return data

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """``fisher/<parameter>`` for B and projector; in weight space ``a/<layer>`` and ``c/<layer>`` for the layers.

        The adapter is attached for the purpose as it will be for training: its A follows the seed. From the second
        stage on, what the stages before have left.
        """
        if self.settings.coefficient == 0 or resources.stage > 1:
            return resources.stage_state
        import torch

        from methods.components.covariance import content_digest

        settings, samples = self.settings, resources.pretraining_samples(self.settings.fisher_samples, "fisher")
        key = {
            "what": "ewc/fisher",
            "adapter": [settings.rank, settings.alpha, settings.space, settings.projector_learning_rate > 0],
            "seed": torch.initial_seed(),
            "samples": content_digest(samples),
        }

        def compute() -> Tensors:
            from methods.components.fisher import fisher_information

            super(EWC, self).attach(model, {})
            try:
                return fisher_information(model, samples, settings.space, a_too=False)
            finally:
                self.detach(model)

        return resources.cached(key, compute)

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """As LoRA; remembers F and where training starts."""
        super().attach(model, prepared)
        self._fisher = {name: tensor.to(model.device) for name, tensor in prepared.items()}
        self._start: Factors = {}
        self._hold(model)

    def load_previous_stage(self, model: InjectableModel, earlier: Tensors) -> None:
        """The same adapter, held to where the stage before ended."""
        from methods.components.fisher import copied_factors

        super().load_previous_stage(model, earlier)
        self._start = copied_factors(model) if self.settings.space == "weights" else {}
        self._hold(model)

    def penalty(self, model: InjectableModel, batch: Batch, logits: torch.Tensor) -> torch.Tensor | None:
        """The spring: lambda / 2 sum F (theta - theta*)^2."""
        if self.settings.coefficient == 0:
            return None
        from methods.components.fisher import weight_penalty

        held = [(fisher * (now - start).square()).sum() for now, start, fisher in self._springs]
        if self.settings.space == "weights":
            held.append(weight_penalty(model, self._fisher, self._start))
        return self.settings.coefficient / 2 * sum(held[1:], start=held[0])

    def export_stage_state(self, model: InjectableModel) -> Tensors:
        """F of all stages so far, this one's own data included."""
        if self.settings.coefficient == 0:
            return {}
        from methods.components.fisher import fisher_information, merge_fisher

        earlier = {name: tensor.cpu() for name, tensor in self._fisher.items()}
        return merge_fisher(earlier, fisher_information(model, self._samples, self.settings.space, a_too=True))

    def _hold(self, model: InjectableModel) -> None:
        self._springs = [
            (parameter, parameter.detach().clone(), self._fisher[f"fisher/{name}"])
            for name, parameter in model.module.named_parameters()
            if f"fisher/{name}" in self._fisher
        ]
