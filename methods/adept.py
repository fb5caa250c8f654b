"""ADEPT: copies of the decoder layers that old data need least are added, and trained alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from benchmarks.errors import UserError
from benchmarks.records import Conversation
from methods.base import (
    Coefficient,
    DecoderShapes,
    InjectableModel,
    InjectionMethod,
    LinearShapes,
    MemoryNeeds,
    MethodSettings,
    Paper,
    Resources,
    Tensors,
    Variant,
    setting,
)
from methods.targets import count_layers


@dataclasses.dataclass(frozen=True)
class AdeptSettings(MethodSettings):
    """How many layers are copied, and how their tensors' learning rates follow their importance."""

    copies: int = setting(4, "decoder layers that are copied", unit="layers", source="ours; paper: 15 % more", ge=1)
    importance_samples: int = setting(64, "replay samples for importance", unit="samples", source="ours", ge=1)
    reweight_every: int = setting(50, "steps between changes of rates; 0: none", unit="steps", source="code: 500", ge=0)


class Adept(InjectionMethod):
    """Trained copies behind some layers, which add nothing at first; rates times 2 (max I - I) / (max I - min I).

    Paper: Zhang et al., "ADEPT: Continual Pretraining via Adaptive Expansion and Dynamic Decoupled Tuning", ICLR 2026,
        arXiv 2510.10071.
    Interpretation: as its code. The layers copied are those without which the loss on old data is lowest. I of a tensor
        is the mean of |w| E|gradient| on old data, over all tensors of all copies; the most important one stands still
        until the next time. Old data are samples of the replay pool, since both need answers.
    Differences: rates are set every 50 steps, since a training on a few thousand items never comes to the code's 500.
        Until the first time all are equal. Instead of AdamW's rate, the step that it took is multiplied, which is the
        same. A gradient is that of one sample, in eval mode; the code has batches of two. Where norms follow the output
        projections (Gemma 2 and 3), their gains start at 0 instead of these. The projector is trained, as in every row.
    Cost: once, as many forward passes over the samples as there are layers, and every ``reweight_every`` steps a
        backward pass. 4 copies on LLaVA-1.5-7B have 809,533,440 parameters, 2.4 times LoRA's, and are kept twice.
        Answers take 36 layers in place of 32, since copies cannot be merged into the weights.
    """

    name = "adept"
    summary = "copies of the decoder layers that old data need least, trained alone, with rates by importance"
    paper = Paper("Adaptive Expansion and Dynamic Decoupled Tuning (ADEPT)", "https://arxiv.org/abs/2510.10071")
    interpretation = (
        "layers whose absence harms the replay pool least are copied; learning rates of the copies' tensors follow "
        "their importance to that pool every 50 steps, not 500; until the first time all rates are equal"
    )
    Settings = AdeptSettings
    settings: AdeptSettings
    coefficient = Coefficient("copies", (1, 2, 4))
    variants: ClassVar[Mapping[str, Variant]] = {
        "equal-rates": Variant({"reweight_every": 0}, "all tensors of the copies at one learning rate"),
    }

    _old: Sequence[Conversation] = ()

    @property
    def pools(self) -> tuple[str, ...]:
        """The replay pool."""
        return ("replay",)

    @property
    def acts_after_step(self) -> bool:
        """Whether rates are ever set anew."""
        return self.settings.reweight_every > 0

    def validate_layers(self, layers: LinearShapes) -> None:
        """Refuse to copy more layers than there are."""
        if self.settings.copies > (there := count_layers(layers.names)):
            raise UserError(
                f"{self.settings.copies} copies of {there} decoder layers",
                location="setting copies",
                hint=f"choose at most {there}",
            )

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """The copies and the projector; their values before the last step, from which it is rescaled."""
        copied = self.settings.copies * shapes.matrices // shapes.layers
        projector = shapes.projector if self.settings.projector_learning_rate > 0 else 0
        return MemoryNeeds(copied + projector, frozen=copied if self.acts_after_step else 0)

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """Measure the loss on old data, of the base and without each of its layers."""
        from benchmarks.records import content_digest
        from methods.components.unit_importance import losses_without_layers

        self._old = resources.pool_samples(self.settings.importance_samples, "importance")
        key = {"what": "adept/losses", "samples": content_digest(self._old)}
        return resources.cached(key, lambda: {"losses": losses_without_layers(model, self._old)})

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """Copy the least critical layers, and make the projector trainable."""
        from methods.components.layer_expansion import expand, layer_names, least_critical

        names, losses = layer_names(model), prepared["losses"][1:].tolist()
        chosen = [names[number] for number in least_critical(losses, self.settings.copies)]
        expand(model, chosen, trained=True, projector=self.settings.projector_learning_rate > 0)

    def load_previous_stage(self, model: InjectableModel, exported: Tensors) -> None:
        """Train the same copies further."""
        from methods.components.layer_expansion import load_expanded

        load_expanded(model, exported)

    def after_step(self, model: InjectableModel, step: int, state: Tensors) -> Tensors:
        """Multiply the step of each tensor of the copies by its weight; from time to time, set the weights anew."""
        from methods.components.layer_expansion import copied_parameters
        from methods.components.unit_importance import reweighted_step

        due = (step + 1) % self.settings.reweight_every == 0
        return reweighted_step(model, self._old, copied_parameters(model.module), state, due=due)

    def export(self, model: InjectableModel) -> Tensors:
        """The copies and the projector, in the base's type."""
        from methods.components.layer_expansion import export_expanded

        return export_expanded(model)

    def detach(self, model: InjectableModel) -> None:
        """Remove the copies and the trained projector."""
        from methods.components.layer_expansion import remove_expansion

        remove_expansion(model)

    def restore(self, model: InjectableModel, exported: Tensors) -> None:
        """Add copies where there were some, and load them."""
        from methods.components.layer_expansion import copied_paths, expand, load_expanded

        expand(model, copied_paths(exported), trained=False, projector=self.settings.projector_learning_rate > 0)
        load_expanded(model, exported)

    def scale_update(self, model: InjectableModel, exported: Tensors, factor: float) -> Tensors:
        """What each copy adds times the factor, the projector on the line from the base."""
        from methods.components.layer_expansion import scale_copies

        return {**super().scale_update(model, exported, factor), **scale_copies(model, exported, factor)}
