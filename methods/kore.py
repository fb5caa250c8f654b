"""KORE: knowledge-tree augmentation, and an adapter confined to the null space of old activations."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from benchmarks.records import Conversation, KnowledgeItem
from methods.base import (
    DecoderShapes,
    InjectableModel,
    InjectionMethod,
    LinearShapes,
    MemoryNeeds,
    Paper,
    Resources,
    Tensors,
    Variant,
    VariantFamily,
)
from methods.components.initialized_lora import START, attach_initialized, mean_and_largest, set_start
from methods.components.kore_settings import KoreSettings
from methods.memory import covariance_bytes
from methods.targets import ALL, check_rank, choose, choose_by_spectrum, is_spectrum_rule

TRAINS_A = ("learning_rate", "rank", "alpha")
"""What KORE chooses for training B alone; with A it would be 608 instead of 340 million parameters on LLaVA-7B."""


class Kore(InjectionMethod):
    """Augmented knowledge, learned by B alone over a frozen A that old activations (almost) do not reach.

    Paper: Jiang et al., "KORE: Enhancing Knowledge Injection for Large Multimodal Models via Knowledge-Oriented
        Controls", 2025, arXiv 2510.19316v2.
    Interpretation: the generator of the knowledge tree is deterministic, where the paper uses GPT-4o and an image
        search; the calibration prompts come from the run's calibration pool, which the record of each run describes;
        the real presets weight them as the released code does (``norm=official``), because it made the published
        numbers, and ``token-mean`` is the paper's formula.
    Differences: A = sqrt(S*) V*^T frozen, B from 0 and W0 untouched, where the paper starts B at U* sqrt(S*) and
        subtracts W0 P from W0; AdamW without weight decay trains both alike. By default covariances are averaged over
        tokens, while the code divides each sample by the absolute value of its largest entry. ``constraint-BENCHMARK``
        calibrates on the benchmark's prompts; with ``calibration_text=question``, as in the real presets, on the
        question column as the code does. ``projected-a`` (ours) lets A learn within the null space: frozen A is one
        basis of it, and a trained A is any. ``wide-null`` (ours) takes A from a null space larger than the rank;
        ``steep-P`` and ``flat-P`` (ours) constrain a part of the layers, chosen by the participation ratio of the
        spectra of their inputs, and train plain LoRA at scaling 1 on the others; ``recalibrated`` (ours) adds the
        covariances of each earlier stage's prompts, in the model as that stage left it, and gives each stage an A of
        its own beside the frozen adapters of earlier ones.
    Cost: once, a forward pass over the calibration prompts and four eigendecompositions per decoder layer; training
        then needs less memory than LoRA, since A has no gradients. At rank 235 on LLaVA-1.5-7B 340,549,632 trained
        parameters, including the projector. ``wide-null`` needs full eigendecompositions, ``recalibrated`` all
        covariances as a stage's state, in float32.
    """

    name = "kore"
    summary = "knowledge-tree augmentation; adapter confined to the null space of old activations"
    paper = Paper("KORE: Enhancing Knowledge Injection for LMMs", "https://arxiv.org/abs/2510.19316")
    interpretation = (
        "data kore is a knowledge tree that a deterministic generator writes; covariances are of prompts of the run's "
        "calibration pool; norm token-mean is the paper's formula, norm official divides each sample by its "
        "largest entry as the released code does"
    )
    Settings = KoreSettings
    settings: KoreSettings
    variants: ClassVar[Mapping[str, Variant]] = {
        "no-constraint": Variant(
            {"constraint": False}, "LoRA on KORE's data, at LoRA's rank", retune=(*TRAINS_A, "dropout")
        ),
        "no-augmentation": Variant({"data": "evoke"}, "the constraint alone, on the knowledge as published"),
        "unfrozen-a": Variant(
            {"freeze_a": False}, "A starts in the null space and is trained too, at LoRA's rank", retune=TRAINS_A
        ),
        "projected-a": Variant(
            {"freeze_a": False, "project_a": True},
            "A is trained too, and projected back onto the null space after each step (ours)",
            retune=TRAINS_A,
        ),
        "random-subspace": Variant({"subspace": "random"}, "our control: frozen A of equal norm in a random subspace"),
        "top-subspace": Variant({"subspace": "top"}, "our control: A where old activations are strongest"),
        "wide-null": Variant(
            {"null_energy": 0.01}, "A reads the strongest directions of a null space larger than its rank (ours)"
        ),
        "recalibrated": Variant(
            {"recalibrate": True}, "each stage also protects what earlier stages injected, by an A of its own (ours)"
        ),
        "frozen-projector": Variant({"projector_learning_rate": 0.0}, "the constraint without its leak: no projector"),
    }
    variant_families = (
        *InjectionMethod.variant_families,
        VariantFamily("norm-", "NORM", "norm", "calibration samples weighted by {}", "token-mean|official"),
        VariantFamily("rank-", "N", "rank", "at rank {}", "[1-9][0-9]*", parse=int, examples=("64",)),
        VariantFamily(
            "constraint-",
            "BENCHMARK",
            "calibrate_on",
            "protects the inputs of {} instead of the calibration pool's",
            "[A-Za-z][A-Za-z0-9_-]*",
            examples=("MME",),
            transductive=True,
        ),
        *(
            VariantFamily(
                f"{side}-",
                "P",
                "constraint_layers",
                f"constrains the {{}} % of each kind of layer whose inputs have the {most} spectra {about}",
                "[1-9][0-9]?",
                parse=f"{side}-{{}}".format,
                examples=("50",),
            )
            for side, most, about in (
                ("steep", "steepest", "and so the largest null spaces (ours)"),
                ("flat", "flattest", "(our control)"),
            )
        ),
    )

    _samples: Sequence[Conversation] = ()
    """Samples of this stage's data."""
    _injected: Tensors
    """Covariances of what earlier stages injected, if they are protected."""

    @property
    def evaluation_inputs(self) -> tuple[str, ...]:
        """The benchmark that a benchmark-specific constraint protects."""
        return (self.settings.calibrate_on,) if self.settings.constraint and self.settings.calibrate_on else ()

    @property
    def pools(self) -> tuple[str, ...]:
        """The calibration pool, if a constraint protects its inputs."""
        return ("calibration",) if self.settings.constraint and not self.settings.calibrate_on else ()

    @property
    def acts_after_step(self) -> bool:
        """Only if A is projected."""
        return self.settings.project_a

    def validate_layers(self, layers: LinearShapes) -> None:
        """Also refuse a rank that is larger than a constrained layer, which then has no such null space."""
        super().validate_layers(layers)
        if self.settings.constraint:
            check_rank(self._constrained(self.adapted(layers)), self.settings.rank)

    def _constrained(self, layers: LinearShapes) -> LinearShapes:
        """Those of the adapted layers that are constrained; if their spectra decide, as many of each kind."""
        chosen = self.settings.constraint_layers
        if chosen == ALL:
            return layers
        if is_spectrum_rule(chosen):
            return layers.only(choose_by_spectrum(dict.fromkeys(layers.names, 0.0), chosen))
        return layers.only(choose(layers.names, chosen, "constraint_layers"))

    def _measured(self, layers: LinearShapes) -> LinearShapes:
        """Those of the adapted layers whose covariances are computed."""
        return layers if is_spectrum_rule(self.settings.constraint_layers) else self._constrained(layers)

    def adapter_parameters(self, layers: LinearShapes) -> int:
        """B alone, r d_out for each layer, and also A's r d_in where A is trained too."""
        everything = super().adapter_parameters(layers)
        if not (self.settings.constraint and self.settings.freeze_a):
            return everything
        return everything - self.settings.rank * sum(d_in for d_in, _ in self._constrained(layers))

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """As for LoRA, with A frozen or a frozen copy of both factors; before, the covariances of one layer."""
        needs, settings = super().memory_needs(shapes), self.settings
        if not settings.constraint:
            return needs
        constrained = shapes.only(self._constrained(shapes.linears))
        d_in, d_out = (sum(widths) for widths in zip(*constrained.linears, strict=True))
        frozen = settings.rank * (d_in if settings.freeze_a else d_in + d_out)
        measured = shapes.only(self._measured(shapes.linears))
        needs = needs.plus(frozen=frozen, preparation=covariance_bytes(measured), prompts=settings.calibration_samples)
        return dataclasses.replace(needs, keeps_inputs=not settings.freeze_a or constrained is not shapes)

    def training_data(self, knowledge: Sequence[KnowledgeItem], resources: Resources) -> list[Conversation]:
        """The data that the setting names; evenly spaced samples are kept to recalibrate the next stage on."""
        data = super().training_data(knowledge, resources)
        count = self.settings.calibration_samples
        self._samples = data[:: max(1, len(data) // count)][:count]
        return data

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """Compute ``<layer>.A`` (r, d_in) and ``<layer>.leaked``, and the paper's B0 as ``<layer>.B`` if A is trained.

        Of the constrained layers alone. If A is projected, also the null space's directions as ``<layer>.basis``
        (d_in, k). ``leaked`` is the share of the calibration inputs' energy that A still reads.
        """
        settings = self.settings
        if not settings.constraint:
            return {}
        from benchmarks.records import content_digest
        from methods.components.covariance import covariances
        from methods.components.injected_inputs import with_injected
        from methods.components.kore_init import VERSION, initial_factors, keep_by_spectrum
        from methods.components.lora_layers import linear_shapes, target_pattern

        shapes = linear_shapes(model, settings.targets)
        chosen, by_spectrum = self._constrained(shapes), is_spectrum_rule(settings.constraint_layers)
        self._injected = resources.stage_state
        check_rank(chosen, settings.rank)
        prompts = self._calibration_prompts(resources)
        key: dict[str, Any] = {
            "what": "kore/A",
            "version": VERSION,
            "rank": settings.rank,
            "norm": settings.norm,
            "subspace": settings.subspace,
            "prompts": content_digest(prompts),
            "layers": target_pattern(model, settings.targets),
            "both factors": not settings.freeze_a,
        }
        if settings.subspace == "random":
            key["seed"] = resources.seed
        if settings.project_a:
            key["basis"] = True
        if settings.constraint_layers != ALL:
            key["constrained"] = settings.constraint_layers
        if settings.null_energy:
            key["null energy"] = settings.null_energy

        def compute() -> Tensors:
            inputs = covariances(model, prompts, settings.norm, names=frozenset(self._measured(shapes).names))
            factors = initial_factors(
                model,
                with_injected(inputs, self._injected),
                settings.rank,
                settings.subspace,
                resources.seed,
                with_b=not settings.freeze_a,
                with_basis=settings.project_a,
                null_energy=settings.null_energy,
                with_flatness=by_spectrum,
            )
            return keep_by_spectrum(factors, settings.constraint_layers) if by_spectrum else factors

        return compute() if self._injected else resources.cached(key, compute)

    def _calibration_prompts(self, resources: Resources) -> Sequence[Conversation]:
        """Prompts whose inputs are protected: the calibration pool's, or those of a benchmark."""
        settings = self.settings
        if not settings.calibrate_on:
            return resources.pool_samples(settings.calibration_samples, "calibration")
        as_in_table = settings.calibration_text == "question"
        return resources.benchmark_prompts(settings.calibrate_on, settings.calibration_samples, as_in_table=as_in_table)

    def load_previous_stage(self, model: InjectableModel, exported: Tensors) -> None:
        """Continue with the same adapter; if the stage has an A of its own, beside the earlier ones, frozen."""
        if not self.settings.recalibrate:
            super().load_previous_stage(model, exported)
            return
        from methods.components.sequential_lora import load_beside

        load_beside(model, exported, scaling=1.0)

    def export_stage_state(self, model: InjectableModel) -> Tensors:
        """The covariances of what was injected so far, if the next stage is to protect it."""
        settings = self.settings
        if not settings.recalibrate:
            return {}
        from methods.components.injected_inputs import injected_covariances
        from methods.components.lora_layers import linear_shapes

        names = frozenset(self._measured(linear_shapes(model, settings.targets)).names)
        return injected_covariances(model, self._samples, settings.norm, names, self._injected)

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """A as prepared and frozen, B from 0, scaling 1, W0 untouched; without the constraint as for LoRA.

        If A is trained too, B must start at the paper's B0; a frozen copy of both then subtracts B0 A0.
        """
        self._attach_adapters(model, [name.removesuffix(".A") for name in prepared if name.endswith(".A")])
        if not self.settings.constraint:
            return
        bases = {name: tensor for name, tensor in prepared.items() if name.endswith(".basis")}
        self._bases = {name.removesuffix(".basis"): tensor.to(model.device) for name, tensor in bases.items()}
        set_start(model, prepared)

    def after_step(self, model: InjectableModel, step: int, state: Tensors) -> Tensors:
        """A <- A U U^T, with the directions U of the null space."""
        from methods.components.lora_layers import lora_ab, lora_layers
        from methods.components.null_space import project_rows_

        for name, layer in lora_layers(model.module):
            if name in self._bases:
                project_rows_(lora_ab(layer)[0], self._bases[name])
        return state

    def restore(self, model: InjectableModel, exported: Tensors) -> None:
        """Attach and load A and B, those of earlier stages too if they are beside them."""
        from methods.components.lora_layers import load_adapter
        from methods.components.sequential_lora import add_past

        copied = f".lora_A.{START}.weight"
        names = [name.removesuffix(copied) for name in exported if name.endswith(copied)]
        self._attach_adapters(model, names or None)
        add_past(model, exported, scaling=1.0)
        load_adapter(model, exported)

    def diagnostics(self, prepared: Tensors) -> dict[str, float]:
        """Share of the calibration inputs' energy that A reads: mean and largest over the constrained layers."""
        leaks = mean_and_largest(prepared, ".leaked", "leaked energy")
        if not leaks or self.settings.constraint_layers == ALL:
            return leaks
        return leaks | {"constrained layers": float(sum(name.endswith(".leaked") for name in prepared))}

    def _attach_adapters(self, model: InjectableModel, names: Collection[str] | None) -> None:
        """Add the adapters; those of the constrained layers, None for all, with A frozen or with a frozen copy."""
        from methods.components.lora_layers import attach_lora

        if self.settings.constraint:
            attach_initialized(model, self.settings, trains_a=not self.settings.freeze_a, names=names)
        else:
            attach_lora(model, self.settings)
