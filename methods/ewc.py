"""EWC: a quadratic penalty on changing what matters to the replay pool."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from benchmarks.records import Conversation, KnowledgeItem
from methods.base import (
    AdapterSettings,
    Batch,
    Coefficient,
    DecoderShapes,
    InjectableModel,
    InjectionMethod,
    MemoryNeeds,
    Paper,
    Resources,
    Tensor,
    Tensors,
    Variant,
    setting,
)
from methods.memory import FLOAT32

if TYPE_CHECKING:
    from methods.components.fisher import LayerFactors


@dataclasses.dataclass(frozen=True)
class EWCSettings(AdapterSettings):
    """LoRA's settings, and those of the penalty."""

    coefficient: float = setting(
        400.0, "lambda in lambda / 2 F (theta - theta*)^2; 0 is LoRA", source="TRACE: 400", ge=0
    )
    fisher_samples: int = setting(
        256, "samples of the replay pool to estimate the Fisher information from", unit="samples", source="ours", ge=1
    )
    space: Literal["parameters", "weights"] = setting(
        "parameters",
        "what is penalised: changes of B, or of the layer's weight",
        source="ours",
        choices=("parameters", "weights"),
    )


class EWC(InjectionMethod):
    """LoRA with lambda / 2 sum F (theta - theta*)^2 over theta = (B, projector); theta* is the start of the stage.

    Paper: Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017.
    Interpretation: the old task of the first stage is a sample of the replay pool, since the gradients of its answers
        stand for what the base was trained on; lambda is TRACE's.
    Differences: lambda / 2 as in the paper (mammoth and avalanche drop the half). F is the empirical Fisher, the mean
        squared gradient of each sample's mean token loss, in eval mode, at the start of training. There B = 0, so
        that F of A is exactly 0 and A is free. ``weight-space`` (ours) penalises changes of s B A instead, with
        F_ij ~ a_i c_j. Each later stage adds the F of the stage before it, including A's, and starts from its end: a
        single penalty around the latest theta*, as in Schwarz et al. 2018, but without their decay.
    Cost: once, a forward and backward pass for each sample of the pool; after each stage, for as many of its own; F in
        float32 for B and projector, 0.78 GB at rank 128 on LLaVA-1.5-7B. A few elementwise operations a step.
    """

    name = "ewc"
    summary = "LoRA held to its start by the Fisher information of a replay sample"
    paper = Paper("Overcoming catastrophic forgetting in neural networks", "https://arxiv.org/abs/1612.00796")
    interpretation = "with one injection stage, F is taken on the run's replay pool at B = 0; lambda is TRACE's"
    Settings = EWCSettings
    settings: EWCSettings
    coefficient = Coefficient("coefficient", (40.0, 400.0, 4000.0))
    variants: ClassVar[Mapping[str, Variant]] = {
        "weight-space": Variant(
            {"space": "weights"}, "holds the change of the weights by a factored Fisher (ours)", retune=("coefficient",)
        ),
    }
    _samples: Sequence[Conversation] = ()
    """Samples of this stage's data, for the Fisher information of the next stage."""

    @property
    def pools(self) -> tuple[str, ...]:
        """The replay pool, unless there is no penalty."""
        return ("replay",) if self.settings.coefficient else ()

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """As for LoRA, and F and theta* of B and projector; within a step also theta - theta*."""
        needs, settings = super().memory_needs(shapes), self.settings
        if not settings.coefficient:
            return needs
        b = settings.rank * sum(d_out for _, d_out in shapes.linears) if settings.space == "parameters" else 0
        projector = shapes.projector if settings.projector_learning_rate > 0 else 0
        held = FLOAT32 * (b + projector)
        return needs.plus(statistics=2 * held, step=held)

    def training_data(self, knowledge: Sequence[KnowledgeItem], resources: Resources) -> list[Conversation]:
        """As for LoRA; evenly spaced samples are kept to estimate what the next stage should not forget."""
        data = super().training_data(knowledge, resources)
        self._samples = data[:: max(1, len(data) // self.settings.fisher_samples)][: self.settings.fisher_samples]
        return data

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """Compute ``fisher/<parameter>`` for projector and B, or in weight space ``a/<layer>`` and ``c/<layer>`` for B.

        The adapter is attached meanwhile as it will be for training: the same seed draws the same A. From the second
        stage on, the tensors come from the previous stages.
        """
        if self.settings.coefficient == 0 or resources.stage > 1:
            return resources.stage_state
        import torch

        from benchmarks.records import content_digest

        settings, samples = self.settings, resources.pool_samples(self.settings.fisher_samples, "fisher")
        key = {
            "what": "ewc/fisher",
            "adapter": [settings.rank, settings.alpha, settings.space, settings.projector_learning_rate > 0],
            "seed": torch.initial_seed(),
            "samples": content_digest(samples),
            **settings.narrowing,
        }

        def compute() -> Tensors:
            from methods.components.fisher import fisher_information

            super(EWC, self).attach(model, {})
            try:
                return fisher_information(model, samples, settings.space, include_a=False)
            finally:
                self.detach(model)

        return resources.cached(key, compute)

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """As for LoRA; also remember F, and theta*."""
        super().attach(model, prepared)
        self._fisher = {name: tensor.to(model.device) for name, tensor in prepared.items()}
        self._start: LayerFactors = {}
        self._set_anchors(model)

    def load_previous_stage(self, model: InjectableModel, exported: Tensors) -> None:
        """Continue with the same adapter; theta* is where the previous stage ended."""
        from methods.components.fisher import copy_lora_ab

        super().load_previous_stage(model, exported)
        self._start = copy_lora_ab(model) if self.settings.space == "weights" else {}
        self._set_anchors(model)

    def penalty(self, model: InjectableModel, batch: Batch, logits: Tensor) -> Tensor | None:
        """Lambda / 2 sum F (theta - theta*)^2."""
        if self.settings.coefficient == 0:
            return None
        from methods.components.fisher import weight_penalty

        terms = [(fisher * (theta - start).square()).sum() for theta, start, fisher in self._anchors]
        if self.settings.space == "weights":
            terms.append(weight_penalty(model, self._fisher, self._start))
        return self.settings.coefficient / 2 * sum(terms[1:], start=terms[0])

    def export_stage_state(self, model: InjectableModel) -> Tensors:
        """F of all stages so far, including this one's data."""
        if self.settings.coefficient == 0:
            return {}
        from methods.components.fisher import fisher_information, merge_fisher

        earlier = {name: tensor.cpu() for name, tensor in self._fisher.items()}
        return merge_fisher(earlier, fisher_information(model, self._samples, self.settings.space, include_a=True))

    def _set_anchors(self, model: InjectableModel) -> None:
        self._anchors = [
            (parameter, parameter.detach().clone(), self._fisher[f"fisher/{name}"])
            for name, parameter in model.module.named_parameters()
            if f"fisher/{name}" in self._fisher
        ]
