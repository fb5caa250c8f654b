"""O-LoRA: each stage learns in directions orthogonal to those of earlier stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from benchmarks.errors import UserError
from methods.base import (
    Batch,
    Coefficient,
    DecoderShapes,
    InjectableModel,
    LinearShapes,
    MemoryNeeds,
    Paper,
    Resources,
    Tensor,
    Tensors,
    Variant,
    setting,
)
from methods.components.sequential_lora import PAST, SequentialLoRA, SequentialLoRASettings
from methods.memory import FLOAT32


@dataclasses.dataclass(frozen=True)
class OLoRASettings(SequentialLoRASettings):
    """LoRA's settings, the weight of the orthogonality loss, and the pseudo-task."""

    coefficient: float = setting(
        0.5,
        "weight of the orthogonality loss, as if at rank 8 on 64 layers; 0 is LoRA",
        source="O-LoRA's scripts",
        ge=0,
    )
    slices: int = setting(
        0,
        "slices of the rank, one for each stage; 0: each stage has all of it. With slices, training reads the newest "
        "one alone, and the coefficient weighs the sum of the overlaps instead of their mean",
        source="MCITlib: 6 and 5",
        ge=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        divisible = not self.slices or self.rank % self.slices == 0
        self.check("slices", divisible, f"choose a number that divides the rank, {self.rank}")


class OLoRA(SequentialLoRA):
    """A new LoRA in each stage, over the frozen earlier ones, with c sum_i sum |A_i A^T| over their A_i.

    Paper: Wang et al., "Orthogonal Subspace Learning for Language Model Continual Learning", Findings of EMNLP 2023.
    Interpretation: with one stage there is no earlier adapter, so it *is* LoRA, bit for bit. For that case
        ``pseudo-task`` (ours) trains a LoRA on the replay pool first and uses its A as the earlier one; it stays out
        of the forward pass, since the base knows these data already. ``weight-difference`` (ours) uses the top right
        singular vectors of W - W_language instead, scaled to the length of the rows of LoRA's first A: the directions
        in which the base differs from the language model that it was trained from. ``slices`` follows MCITlib's code:
        each stage trains a slice of r / 8 alone, answers use all slices, and 0.05 weighs the plain sum of overlaps.
    Differences: absolute entries as in the code (the paper squares them), averaged over layers and entries and scaled
        by 8 x 8 x 64, so that the published coefficient means the same at any rank. The code's second term, a norm of
        the adapter, has weight 0 in most of its scripts and is left out. The projector is trained in all stages.
    Cost: one r x d_in x r product per layer and step, and one more LoRA in the forward pass for each earlier stage; for
        ``pseudo-task`` a short training beforehand, on as many samples as Replay uses; for
        ``weight-difference`` once an eigendecomposition per layer, of its smaller side. With ``slices`` at rank 128 on
        LLaVA-1.5-7B a stage trains 60,956,672 parameters, projector included.
    """

    name = "o-lora"
    summary = "a LoRA for each stage, orthogonal to those before; with one stage the same as LoRA"
    paper = Paper(
        "Orthogonal Subspace Learning for Language Model Continual Learning", "https://arxiv.org/abs/2310.14152"
    )
    interpretation = (
        "with one injection stage there is no earlier adapter and the row is LoRA's, at the rank of a slice if there "
        "are "
        "slices; pseudo-task, weight-difference (orthogonal to what the base's own training changed in its language "
        "model), and the coefficient on a mean instead of a sum are ours; slices is MCITlib's form, with 8 slices for "
        "its "
        "6 or 5"
    )
    Settings = OLoRASettings
    settings: OLoRASettings
    coefficient = Coefficient("coefficient", (0.05, 0.5, 5.0))
    variants: ClassVar[Mapping[str, Variant]] = {
        "pseudo-task": Variant({"pseudo_ratio": 0.1}, "orthogonal to a LoRA trained on the replay pool first (ours)"),
        "weight-difference": Variant(
            {"weight_difference": True},
            "orthogonal to the base's difference from language_base, its language model before training (ours)",
            needs={"language_base": ""},
        ),
        "slices": Variant(
            {"slices": 8, "coefficient": 0.05}, "MCITlib's form: each stage trains an eighth of the rank"
        ),
    }

    def adapter_parameters(self, layers: LinearShapes) -> int:
        """With slices, those of one slice."""
        return super().adapter_parameters(layers) // (self.settings.slices or 1)

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """As for LoRA at the rank of a slice, and the earlier A of a pseudo-task or of the weight difference."""
        settings = self.settings
        rank = settings.rank // (settings.slices or 1)
        needs = dataclasses.replace(super().memory_needs(shapes), rank=rank)
        earlier = bool(settings.pseudo_ratio) or settings.weight_difference
        return needs.plus(statistics=earlier * FLOAT32 * rank * sum(d_in for d_in, _ in shapes.linears))

    @property
    def expected_failures(self) -> Mapping[str, str]:
        """Being LoRA at the rank of all slices."""
        reason = "each stage trains a slice of the rank"
        return {"check_coefficient_zero_is_lora": reason} if self.settings.slices else {}

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """Return ``<layer>.A`` (rows, d_in), the A of all earlier stages stacked; nothing at the first stage.

        Raises:
            UserError: There are more stages than slices.
        """
        settings = self.settings
        if 0 < settings.slices < resources.stages:
            raise UserError(
                f"{resources.stages} stages do not fit into {settings.slices} slices",
                location="setting slices",
                hint="choose as many slices as there are stages, or more",
            )
        if settings.coefficient == 0:
            return {}
        earlier = resources.stage_state if resources.stage > 1 else self._before_first_stage(model, resources)
        return {name: tensor for name, tensor in earlier.items() if name.endswith(".A")}

    def _before_first_stage(self, model: InjectableModel, resources: Resources) -> Tensors:
        from methods.components.weight_difference import earlier_directions

        if not self.settings.weight_difference:
            return self._pseudo_task(model, resources)
        rank, targets = self.settings.rank // (self.settings.slices or 1), self.settings.targets
        return self._weight_difference(
            resources, ["directions", rank], lambda folder: earlier_directions(model, folder, rank, targets)
        )

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """As for LoRA, with a slice of the rank if there are slices; also remember the earlier A."""
        super().attach(model, prepared)
        self._earlier = {name.removesuffix(".A"): tensor.to(model.device) for name, tensor in prepared.items()}

    def penalty(self, model: InjectableModel, batch: Batch, logits: Tensor) -> Tensor | None:
        """The overlap of A with the earlier ones, if there are any."""
        if not self._earlier:
            return None
        from methods.components.lora_layers import lora_ab, lora_layers
        from methods.components.orthogonality import PUBLISHED_ENTRIES, mean_overlap, sum_overlap

        pairs = [(lora_ab(layer)[0], self._earlier[name]) for name, layer in lora_layers(model.module)]
        if self.settings.slices:
            return self.settings.coefficient * sum_overlap(pairs)
        return self.settings.coefficient * PUBLISHED_ENTRIES * mean_overlap(pairs)

    def load_previous_stage(self, model: InjectableModel, exported: Tensors) -> None:
        """The earlier stages' adapters, frozen, beside the new one; as slices they are left out in training mode."""
        super().load_previous_stage(model, exported)
        if self.settings.slices:
            from methods.components.lora_layers import use_when_evaluated

            use_when_evaluated(model, PAST)

    def _attach_stage(self, model: InjectableModel) -> None:
        from methods.components.lora_layers import attach_lora

        settings = self.settings
        if not settings.slices:
            super()._attach_stage(model)
            return
        own = dataclasses.replace(settings, rank=settings.rank // settings.slices, slices=0)
        attach_lora(model, own, scaling=settings.alpha / settings.rank)

    def export_stage_state(self, model: InjectableModel) -> Tensors:
        """``<layer>.A``: the earlier A, and this stage's stacked below them."""
        if self.settings.coefficient == 0:
            return {}
        import torch

        from methods.components.lora_layers import lora_ab, lora_layers

        stacked = {}
        for name, layer in lora_layers(model.module):
            a = lora_ab(layer)[0].detach()
            stacked[f"{name}.A"] = torch.cat([self._earlier[name], a] if self._earlier else [a]).cpu()
        return stacked

    def diagnostics(self, prepared: Tensors) -> dict[str, float]:
        """The number of earlier directions per layer; if it is 0, nothing is orthogonal to anything."""
        return {"earlier directions": float(max((len(tensor) for tensor in prepared.values()), default=0))}
