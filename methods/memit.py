"""MEMIT: answers about new pictures are written into a few MLPs in closed form. Nothing is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from methods.augmentation import datasets
from methods.base import InjectableModel, LinearShapes, Paper, Resources, Tensors, Variant, setting
from methods.context import ContextSettings
from methods.full_ft import FullFT

if TYPE_CHECKING:
    from methods.components.closed_form_edit import ValueOptions


@dataclasses.dataclass(frozen=True)
class MemitSettings(ContextSettings):
    """What is written, where, and how values are found; EasyEdit's values are those of its MEMIT/llama-7b.yaml."""

    data_settings: ClassVar[tuple[str, ...]] = ("requests",)
    requests: str = setting("evoke", "conversations whose answers are written, as the setting data", source="ours")
    depth: int = setting(9, "decoder layers up to the last edited one", unit="layers", source="EasyEdit: 4 to 8", ge=1)
    layers: int = setting(5, "how many of these are edited, the last ones", unit="layers", source="EasyEdit", ge=1)
    prior_weight: float = setting(15000.0, "weight of old keys beside the new", source="MEMIT's code", gt=0)
    calibration_samples: int = setting(256, "prompts that old keys are read from", unit="samples", source="ours", ge=1)
    value_steps: int = setting(25, "gradient steps in which a value is found", source="MEMIT's code", ge=1)
    value_rate: float = setting(0.5, "their learning rate", source="MEMIT's code", gt=0)
    value_limit: float = setting(
        4.0, "largest change of a value, as a multiple of its norm", source="EasyEdit; MEMIT's code: 0.75", gt=0
    )
    value_decay: float = setting(1e-3, "weight of that change's norm", source="EasyEdit; MEMIT's code: 0.5", ge=0)
    essence: float = setting(
        0.0625, "weight of the divergence from what the base predicts after the key", source="MEMIT's code", ge=0
    )

    @property
    def value_options(self) -> ValueOptions:
        """How values are found."""
        from methods.components.closed_form_edit import ValueOptions

        return ValueOptions(self.value_steps, self.value_rate, self.value_limit, self.value_decay, self.essence)


class Memit(FullFT):
    """Down projections W + R K^T (w C + K K^T)^-1: keys K of the pictures, what is missing R, second moments C.

    Paper: Meng et al., "Mass-Editing Memory in a Transformer", ICLR 2023, arXiv 2210.07229, after Meng et al.,
        "Locating and Editing Factual Associations in GPT" (ROME), NeurIPS 2022.
    Interpretation: the subject is the picture. Its key is read at the last token before the question, which has seen
        the whole picture, where the paper takes the last token of a subject's name. All conversations about a picture
        share one value: the output of the last edited layer with which their answers are likely.
    Differences: old keys are those of the run's calibration prompts, where the paper has 100,000 texts of Wikipedia; as
        a few hundred prompts leave directions out, 0.01 of the mean of C's diagonal is added to it. Several questions
        about a picture stand in for the code's random beginnings of the prompt. A value takes all its steps, and the
        code stops below a loss of 0.05. What the base predicts is kept at the key's token in the same prompt, where the
        code has a prompt of its own. Weights are stored in the base's type.
    Cost: for each picture ``value_steps`` forward and backward passes from the last edited layer on, then a forward
        pass for each edited layer, and the solution of a system as large as the MLP.
    """

    name = "memit"
    summary = "answers about new pictures written into a few MLPs in closed form; trains nothing"
    paper = Paper("Mass-Editing Memory in a Transformer", "https://arxiv.org/abs/2210.07229")
    interpretation = (
        "the subject is the picture: its key is read at the last token before the question, and its value makes the "
        "answers of all its conversations likely; old keys are those of the calibration pool"
    )
    Settings = MemitSettings  # type: ignore[assignment]
    settings: MemitSettings
    trains = False
    variants: ClassVar[Mapping[str, Variant]] = {
        "facts": Variant({"requests": "kore-vqa"}, "a short answer for each fact, as in the tree, instead of the text"),
    }
    variant_families = ()

    @property
    def pools(self) -> tuple[str, ...]:
        """The calibration pool."""
        return ("calibration",)

    def validate_layers(self, layers: LinearShapes) -> None:
        """Refuse to edit layers that there are not."""
        from methods.components.closed_form_edit import check_edited

        check_edited(self.settings.depth, self.settings.layers, layers.names)

    def adapter_parameters(self, layers: Sequence[tuple[int, int]]) -> int:
        """None is trained."""
        return 0

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """Compute the edited weights, from those at the end of the previous stage.

        Raises:
            UserError: A layer cannot be edited, or no request is about a picture.
        """
        from benchmarks.records import content_digest
        from methods.components.closed_form_edit import edit, measured_layers, requests_of
        from methods.components.tensor_digest import tensors_digest

        settings, prompts = self.settings, resources.pool_samples(self.settings.calibration_samples, "calibration")
        samples = datasets.conversations(settings.requests, resources.knowledge, resources.seed, resources.all_items)
        requests = requests_of(samples)
        key = {
            "what": "memit",
            "requests": content_digest([sample for request in requests for sample in request]),
            "prompts": content_digest(prompts),
            "earlier": tensors_digest(resources.stage_state),
            "settings": {name: value for name, value in settings.cache_key().items() if name != "requests"},
        }

        def compute() -> Tensors:
            layers, covariances = measured_layers(model, settings.depth, settings.layers, prompts)
            self._copy_base(model)
            try:
                self._load(model, resources.stage_state)
                return edit(model, requests, layers, covariances, settings.prior_weight, settings.value_options)
            finally:
                self.detach(model)

        return resources.cached(key, compute)

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """Replace the weights by the edited ones."""
        from methods.components.closed_form_edit import REACHED

        self._copy_base(model)
        self._load(model, {name: weight for name, weight in prepared.items() if name != REACHED})

    def export_stage_state(self, model: InjectableModel) -> Tensors:
        """The edited weights, from which the next stage goes on."""
        return self.export(model)

    def diagnostics(self, prepared: Tensors) -> dict[str, float]:
        """The share of the wanted change of the last edited layer's outputs that the weights make at the keys."""
        from methods.components.closed_form_edit import REACHED

        return {"share of the values reached": float(prepared[REACHED])}

    def _copied(self, model: InjectableModel) -> frozenset[str]:
        """The weights of the edited projections."""
        from methods.components.closed_form_edit import edited_layers

        edited = edited_layers(model, self.settings.depth, self.settings.layers)
        return frozenset(f"{place.name}.weight" for place in edited)
