"""CO-SVD: the base without some of its singular components, to see what the others hold. Nothing is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from methods.base import Conversation, InjectableModel, Paper, Resources, Tensors, Variant, setting
from methods.context import ContextSettings
from methods.full_ft import FullFT

PLAIN = "identity"
ROWS = ("co-svd:plain", "co-svd:asvd", "co-svd", "co-svd:random-basis")
"""The decompositions that ``harness capture`` compares, each at several values of ``discard``."""


@dataclasses.dataclass(frozen=True)
class CoSVDSettings(ContextSettings):
    """What is decomposed by, how much is discarded, and the prompts behind it."""

    discard: int = setting(
        128, "singular components to discard from each layer", unit="components", source="KORE table 7", ge=1
    )
    end: Literal["smallest", "largest"] = setting(
        "smallest", "which of them", source="KORE section 3.3", choices=("smallest", "largest")
    )
    weighting: Literal["identity", "magnitudes", "covariance", "random"] = setting(
        "covariance",
        "what the weight is multiplied by before it is decomposed; random is a control",
        source="KORE section 3.3",
        choices=(PLAIN, "magnitudes", "covariance", "random"),
    )
    calibration_samples: int = setting(256, "prompts behind it", unit="samples", source="KORE table 7", ge=1)
    calibrate_on: str = setting(
        "", "a benchmark to take these prompts from instead of the calibration pool", source="KORE table 7"
    )
    norm: Literal["token-mean", "official"] = setting(
        "official", "how samples are weighted in the covariance, as for kore", source="code of CorDA and KORE",
        choices=("token-mean", "official"),
    )  # fmt: skip


class CoSVD(FullFT):
    """Every decoder linear W without the r smallest components of W C, where C is the covariance of its inputs.

    Paper: Jiang et al., KORE, arXiv 2510.19316v2, figure 4 and table 7 (8 in v1), after Yang et al., "CorDA", NeurIPS
        2024; ASVD as Yuan et al., arXiv 2312.05821.
    Differences: computed in float64 as U U^T W, without the inverse of C. The damping is CorDA's first, 0.01; its code
        doubles it until an inverse is exact enough. ASVD's mean absolute values are over all tokens, not first over
        those of each sample. Prompts are as the benchmark asks them, where KORE's code takes the question column.
    Cost: one singular value decomposition for each layer and weighting, whose vectors are stored for all values of
        ``discard``: 22 GB in float32 for LLaVA-1.5-7B. Each row stores all weights of the decoder, 13 GB.
    """

    name = "co-svd"
    summary = "the base without some singular components of each layer; trains nothing"
    paper = Paper("CorDA: Context-Oriented Decomposition Adaptation", "https://arxiv.org/abs/2406.05223")
    Settings = CoSVDSettings  # type: ignore[assignment]
    settings: CoSVDSettings
    trains = False
    variants: ClassVar[Mapping[str, Variant]] = {
        "plain": Variant(
            {"weighting": PLAIN, "calibrate_on": "", "calibration_samples": 1},
            "the plain singular value decomposition, which looks at no input",
        ),
        "asvd": Variant({"weighting": "magnitudes"}, "inputs scaled by the root of their mean absolute value"),
        "random-basis": Variant(
            {"weighting": "random"}, "our control: a matrix of the covariance's eigenvalues in a random basis"
        ),
    }
    variant_families = ()

    @property
    def evaluation_inputs(self) -> tuple[str, ...]:
        """The benchmark whose prompts are read."""
        return (self.settings.calibrate_on,) if self.settings.calibrate_on else ()

    @property
    def pools(self) -> tuple[str, ...]:
        """The calibration pool, unless no prompt is read or they are a benchmark's."""
        return () if self.settings.weighting == PLAIN or self.settings.calibrate_on else ("calibration",)

    def adapter_parameters(self, layers: Sequence[tuple[int, int]]) -> int:
        """None is trained."""
        return 0

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """The left singular vectors (d_out, min(d_out, d_in)) float32 of every layer, by name.

        Raises:
            UserError: More components shall be discarded than a layer has.
        """
        from benchmarks.records import content_digest
        from methods.components.lora_layers import target_layers
        from methods.components.singular_vectors import VERSION, check_discard, singular_vectors

        settings, prompts = self.settings, self._prompts(resources)
        check_discard(settings.discard, {name: min(layer.weight.shape) for name, layer in target_layers(model).items()})
        key: dict[str, Any] = {
            "what": "singular vectors",
            "version": VERSION,
            "weighting": settings.weighting,
            "norm": settings.norm,
            "prompts": content_digest(prompts),
            "layers": model.linear_targets,
        }
        if settings.weighting == "random":
            key["seed"] = resources.seed
        return resources.cached(
            key, lambda: singular_vectors(model, prompts, settings.weighting, settings.norm, resources.seed)
        )

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """Replace each weight by what is left of it."""
        from methods.components.weight_svd import without_components

        self._copy_base(model)
        for name, vectors in prepared.items():
            weight = model.module.get_parameter(f"{name}.weight").detach()
            left = without_components(weight, vectors, self.settings.discard, self.settings.end)
            self._load(model, {f"{name}.weight": left})

    def _prompts(self, resources: Resources) -> Sequence[Conversation]:
        """What the weighting is measured on."""
        if self.settings.calibrate_on:
            return resources.benchmark_prompts(self.settings.calibrate_on, self.settings.calibration_samples)
        if self.pools:
            return resources.pool_samples(self.settings.calibration_samples, "calibration")
        return ()

    def _copied(self, model: InjectableModel) -> frozenset[str]:
        """The weights of the decoder's linear layers."""
        from methods.components.lora_layers import target_layers

        return frozenset(f"{name}.weight" for name in target_layers(model))
