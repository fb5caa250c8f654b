"""KORE: knowledge-tree augmentation and an adapter confined to the null space of old activations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from benchmarks.errors import UserError
from methods.base import InjectionMethod, Paper, Variant, VariantFamily
from methods.interfaces import AdapterSettings, InjectableModel, Resources, setting

if TYPE_CHECKING:
    from methods.interfaces import Tensors

START = "start"
"""The frozen second adapter that holds what the trained one began with."""


@dataclasses.dataclass(frozen=True)
class KoreSettings(AdapterSettings):
    """KORE's settings; alpha is used without the constraint alone, for the constrained adapter has scaling 1."""

    rank: int = setting(235, "rank r of the adapter and of the null space", source="KORE table 7")
    data: str = setting("kore", "training conversations, as for every method", source="KORE section 3.2")
    constraint: bool = setting(True, "confine the adapter to the null space", source="KORE section 3.3")
    freeze_a: bool = setting(True, "train B alone", source="KORE section 3.3")
    subspace: Literal["null", "random", "top"] = setting("null", "what A reads; others are controls", source="ours")
    calibration_samples: int = setting(256, "old prompts behind the covariances", unit="samples", source="KORE 4.1")
    calibrate_on: str = setting("", "a benchmark to take these prompts from instead of old data", source="KORE 4.2")
    norm: Literal["token-mean", "official"] = setting(
        "token-mean", "how tokens are weighed in the covariance", source="paper: C = X X^T; official code: /|max X|"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("calibration_samples", self.calibration_samples >= 1)
        self.check("subspace", self.subspace in ("null", "random", "top"))
        self.check("norm", self.norm in ("token-mean", "official"))
        if self.constraint and (self.weight_decay or self.dropout):
            raise UserError(
                "with the constraint, weight decay and dropout must be 0: B starts at 0 here and at B0 in the paper, "
                "which is the same training only without them",
                location="kore.weight_decay, kore.dropout",
                hint="set both to 0",
            )


class Kore(InjectionMethod):
    """Augmented knowledge, learnt by B alone over a frozen A that old activations (almost) do not reach.

    Paper: Jiang et al., "KORE: Enhancing Knowledge Injection for Large Multimodal Models via Knowledge-Oriented
        Controls", 2025, arXiv 2510.19316v2.
    Our reading: the generator of the knowledge tree is deterministic where the paper asks GPT-4o and an image search;
        the calibration samples are a sample of the base's own training data where the paper has four OneVision sets.
    Differences: A = sqrt(S*) V*^T frozen, B from 0 and W0 untouched, where the paper starts B at U* sqrt(S*) and
        subtracts W0 P from W0; AdamW without weight decay trains both alike. Covariances are averaged over tokens
        (``norm=official`` divides each sample as the code does).
    Cost: once, one forward pass over the calibration prompts and four eigendecompositions a decoder layer; then
        training needs less memory than LoRA, for A has no gradients. At rank 235 on LLaVA-1.5-7B 340,549,632 trained
        parameters, projector included.
    """

    name = "kore"
    summary = "knowledge-tree augmentation; adapter confined to the null space of old activations"
    paper = Paper("KORE: Enhancing Knowledge Injection for LMMs", "https://arxiv.org/abs/2510.19316")
    interpretation = (
        "a deterministic generator writes the knowledge tree; covariances are averaged over tokens of samples of the "
        "base's own training data"
    )
    Settings = KoreSettings
    settings: KoreSettings
    variants: ClassVar[Mapping[str, Variant]] = {
        "no-constraint": Variant(
            {"constraint": False}, "LoRA on KORE's data, at KORE's rank", retune=("learning_rate",)
        ),
        "no-augmentation": Variant({"data": "evoke"}, "the constraint alone, on the knowledge as published"),
        "unfrozen-a": Variant(
            {"freeze_a": False}, "A starts in the null space and is trained too", retune=("learning_rate",)
        ),
        "random-subspace": Variant({"subspace": "random"}, "our control: frozen A of equal norm in a random subspace"),
        "top-subspace": Variant({"subspace": "top"}, "our control: A where old activations are strongest"),
        "frozen-projector": Variant({"projector_learning_rate": 0.0}, "the constraint without its leak: no projector"),
    }
    variant_families = (
        VariantFamily("rank-", "N", "rank", "at rank {}", "[1-9][0-9]*", int, ("64",)),
        VariantFamily(
            "constraint-", "BENCHMARK", "calibrate_on", "protects the inputs of {} instead of old data",
            "[A-Za-z][A-Za-z0-9_-]*", examples=("MME",), transductive=True,
        ),
    )  # fmt: skip

    @property
    def evaluation_inputs(self) -> tuple[str, ...]:
        """The benchmark that a specific constraint protects."""
        return (self.settings.calibrate_on,) if self.settings.constraint and self.settings.calibrate_on else ()

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """For each decoder linear its A (r, d_in) (and the paper's first B, if A is trained); what A still sees."""
        if not self.settings.constraint:
            return {}
        from methods.components.kore_init import cached_start

        count, source = self.settings.calibration_samples, self.settings.calibrate_on
        prompts = (
            resources.benchmark_prompts(source, count)
            if source
            else resources.pretraining_samples(count, "calibration")
        )
        return cached_start(model, resources, self.settings, prompts)

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """A as prepared and frozen, B at 0, scaling 1, W0 untouched; without the constraint, LoRA.

        When A is trained too, B must start at the paper's B0, and a frozen copy of both takes B0 A0 off again.
        """
        from methods.components.lora_layers import lora_ab, lora_layers

        self._place(model)
        if not self.settings.constraint:
            return
        for name, layer in lora_layers(model.module):
            for adapter in layer.lora_A:
                a, b = lora_ab(layer, adapter)
                a.data.copy_(prepared[f"{name}.A"])
                if not self.settings.freeze_a:
                    b.data.copy_(prepared[f"{name}.B"])

    def restore(self, model: InjectableModel, tensors: Tensors) -> None:
        """A and B as exported."""
        from methods.components.lora_layers import load_adapter

        self._place(model)
        load_adapter(model, tensors)

    def diagnostics(self, prepared: Tensors) -> dict[str, float]:
        """Share of the old inputs' energy in what A reads: mean and largest over the layers."""
        shares = [float(tensor) for name, tensor in prepared.items() if name.endswith(".leaked")]
        if not shares:
            return {}
        return {"leaked energy, mean": sum(shares) / len(shares), "leaked energy, largest": max(shares)}

    def _place(self, model: InjectableModel) -> None:
        from methods.components.lora_layers import add_frozen, attach_lora, freeze_a

        if not self.settings.constraint:
            attach_lora(model, self.settings)
            return
        attach_lora(model, self.settings, scaling=1.0)
        if self.settings.freeze_a:
            freeze_a(model)
        else:
            add_frozen(model, START, self.settings.rank, scaling=-1.0)
