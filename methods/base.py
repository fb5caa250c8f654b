"""The interface of a knowledge-injection method.

Subclass `InjectionMethod`, give it a `name`, and override the hooks in which it differs from LoRA:

    from methods.base import AdapterSettings, InjectionMethod, Paper, setting

Everything that a method needs can be imported from here. `python -m harness new-method NAME` writes a first version and
`check-method NAME` tests it. Importing this module loads no torch: hooks import what they need when they run, so that
listing all methods is instant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from benchmarks.errors import UserError
from benchmarks.records import Conversation, KnowledgeItem, Question
from methods.augmentation import datasets
from methods.hook_signatures import source_file, validate_subclass
from methods.interfaces import (
    AdapterSettings,
    AskingResources,
    Batch,
    InjectableModel,
    MethodSettings,
    Resources,
    Tensor,
    Tensors,
    setting,
)
from methods.memory import DecoderShapes, MemoryNeeds
from methods.targets import ALL, LinearShapes, choose
from methods.variants import Coefficient, SameAs, Variant, VariantFamily, same_as

__all__ = [
    "METHODS",
    "AdapterSettings",
    "AskingResources",
    "Batch",
    "Coefficient",
    "Conversation",
    "DecoderShapes",
    "InjectableModel",
    "InjectionMethod",
    "KnowledgeItem",
    "LinearShapes",
    "MemoryNeeds",
    "MethodSettings",
    "Paper",
    "Question",
    "Resources",
    "SameAs",
    "Tensor",
    "Tensors",
    "Variant",
    "VariantFamily",
    "same_as",
    "setting",
]


@dataclasses.dataclass(frozen=True)
class Paper:
    """Where a method comes from."""

    title: str
    link: str


LEARNING_RATE = VariantFamily(
    "rate-", "LR", "learning_rate", "at learning rate {}", r"[1-9](\.[0-9]*[1-9])?e-[1-9]", parse=float
)
"""Variants of every method: paper and code may print different rates for the same rows."""
METHODS: dict[str, type[InjectionMethod]] = {}
"""All methods that have been defined, by name. ``methods.registry`` also loads those of installed packages."""


class InjectionMethod:
    """A way to teach a language-vision model new knowledge.

    Defining a subclass with a ``name`` registers it. The hooks below are in the order in which they are called: those
    up to ``diagnostics`` in each injection stage, on a new instance, then ``restore`` and ``detach`` on another one, to
    answer questions. Each hook has a default; all defaults together are LoRA with a trained projector.

    Args:
        settings: An instance of ``Settings``.
    """

    name: ClassVar[str] = ""
    """As ``--methods`` takes it: lowercase letters, digits and hyphens."""
    summary: ClassVar[str] = ""
    """One line for listings and reports."""
    paper: ClassVar[Paper]
    interpretation: ClassVar[str] = ""
    """Choices that the paper leaves open or that differ from it; shown in listings and reports."""
    Settings: ClassVar[type[MethodSettings]] = AdapterSettings
    variants: ClassVar[Mapping[str, Variant]] = {}
    variant_families: ClassVar[tuple[VariantFamily, ...]] = (LEARNING_RATE,)
    trains: ClassVar[bool] = True
    """False if ``attach`` leaves the model as it should answer: of the hooks before ``export``, only ``prepare`` and
    ``attach`` are called, in each stage; ``resources.knowledge`` has the items."""
    data_files: ClassVar[tuple[str, ...]] = ()
    """Files that the method's code reads, relative to its own file: what they contain counts as code."""
    oracle: ClassVar[bool] = False
    """Whether ``ask`` uses which item a question is about, which nobody knows: an upper bound, never ranked."""
    coefficient: ClassVar[Coefficient | None] = None
    """The setting that ``tune`` searches beside the learning rate."""

    def __init__(self, settings: MethodSettings) -> None:
        self.settings = settings

    @property
    def evaluation_inputs(self) -> tuple[str, ...]:
        """Benchmarks whose questions the method reads; its row is then marked transductive and never ranked."""
        return ()

    @property
    def pools(self) -> tuple[str, ...]:
        """The pools that ``resources.pool_samples`` draws from: ``calibration``, ``replay``, or both; default none.

        Only what is named can be drawn from, and a change of any other pool trains nothing again.
        """
        return ()

    @property
    def acts_after_step(self) -> bool:
        """Whether ``after_step`` is called; with False, training can be sharded in any way. Default: if overridden."""
        return self.overrides("after_step")

    @property
    def expected_failures(self) -> Mapping[str, str]:
        """Checks of ``check-method`` that the method cannot pass with these settings, and why."""
        return {}

    # Training, once in each injection stage.

    def training_data(self, knowledge: Sequence[KnowledgeItem], resources: Resources) -> list[Conversation]:
        """Return the conversations to train on, with unique ids. Default: those that the setting ``data`` names."""
        return datasets.conversations(self.settings.data, knowledge, resources.seed, resources.all_items)

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """Compute statistics of the untouched base, such as covariances or Fisher information. Default: none.

        ``resources.cached`` stores what is expensive. ``attach`` and ``diagnostics`` receive the tensors.
        """
        return {}

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """Insert the trainable parts and set ``requires_grad``. Default: LoRA on each layer in ``targets``.

        torch is seeded before this hook and before ``prepare``: draw initial values from its global generator, or from
        one seeded with ``torch.initial_seed()``.
        """
        from methods.components.lora_layers import attach_lora

        attach_lora(model, self.adapter_settings)

    def load_previous_stage(self, model: InjectableModel, exported: Tensors) -> None:
        """Continue from the previous stage; called after ``attach``, from the second stage on.

        Default: train the same adapter further, which is sequential fine-tuning.

        Args:
            model: With this stage's adapter attached.
            exported: What ``export`` returned at the end of the previous stage.
        """
        from methods.components.lora_layers import load_adapter

        load_adapter(model, exported)

    def parameter_groups(self, model: InjectableModel) -> Iterator[dict[str, Any]]:
        """Yield AdamW groups (``params``, ``lr``, ``weight_decay``, ``names``) that cover all trained parameters."""
        from methods.components.lora_layers import parameter_groups

        yield from parameter_groups(model, self.settings)

    def loss(self, model: InjectableModel, batch: Batch, logits: Tensor, targets: Tensor) -> tuple[Tensor, float]:
        """Return the sum of the token losses of a micro-batch, and the number of tokens. Default: cross-entropy.

        A step minimises the first, divided by the second, each summed over all its micro-batches and processes: give
        each token a loss of its own, that does not depend on the other rows. A micro-batch without supervised tokens
        has a sum and a number of 0. The log shows the quotient in nats.

        Args:
            model: With the adapter attached, in training mode.
            batch: As ``model.training_batch`` returned it.
            logits: (n, vocabulary), at the n supervised positions of the batch.
            targets: (n,), the tokens that should come there.
        """
        from torch.nn import functional

        return functional.cross_entropy(logits, targets, reduction="sum"), len(targets)

    def penalty(self, model: InjectableModel, batch: Batch, logits: Tensor) -> Tensor | None:
        """Return a scalar to add to the mean token loss of a micro-batch. Default: none.

        The loss and penalty of a micro-batch are weighted by its share of the step's supervised tokens, so that a mean
        over tokens and a function of the parameters alone both come out the same however the step is split.

        Args:
            model: With the adapter attached, in training mode.
            batch: As ``model.training_batch`` returned it.
            logits: (n, vocabulary), at the n supervised positions of the batch.
        """
        return None

    def after_step(self, model: InjectableModel, step: int, state: Tensors) -> Tensors:
        """Change the trained parameters after an optimiser step, and return the state for the next. Default: neither.

        Only the values of trained parameters may change, in place: projected, clipped or pruned. Everything else of
        the model stays as it is, and so do the optimiser's moments. What depends on earlier steps belongs in the state
        and not on ``self``: the state is saved and restored with the checkpoint.

        Called without gradients, in every process, with equal parameters: all must compute the same, so draw no
        random numbers from the global generators, which differ between processes.

        Args:
            model: With the adapter attached, in training mode.
            step: Number of the optimiser step, from 0 in each injection stage.
            state: What the hook returned after the step before, on the model's device; empty at the first.

        Returns:
            Finite, dense tensors by name that share no memory with the model.
        """
        return state

    def export(self, model: InjectableModel) -> Tensors:
        """Return every tensor in which the trained model differs from the base, by name, on the CPU."""
        from methods.components.lora_layers import export_adapter

        return export_adapter(model)

    def export_stage_state(self, model: InjectableModel) -> Tensors:
        """Return what the next stage needs besides ``export``; it becomes ``resources.stage_state``. Default: nothing.

        Not called after the last stage. The adapter is attached, in eval mode and already exported: changes to it are
        lost.
        """
        return {}

    def detach(self, model: InjectableModel) -> None:
        """Make the base bit for bit what it was before ``attach`` or ``restore``. Calling it twice is harmless."""
        from methods.components.lora_layers import detach_adapter

        detach_adapter(model)

    def diagnostics(self, prepared: Tensors) -> dict[str, float]:
        """Return numbers that the report should show, by name. Default: none.

        Args:
            prepared: What ``prepare`` returned.
        """
        return {}

    # Answering, with the stored adapter.

    def restore(self, model: InjectableModel, exported: Tensors) -> None:
        """Attach to the untouched base and load what ``export`` returned, ready to answer. Default: as for LoRA."""
        from methods.components.lora_layers import attach_lora, load_adapter

        attach_lora(model, self.adapter_settings)
        load_adapter(model, exported)

    def ask(self, question: Question, resources: AskingResources) -> Question:
        """Return what to ask the model in place of a question of the evaluation. Default: the question.

        For methods that put knowledge into the prompt; their rows are marked. The texts of the turns may change, and
        pictures be added, each with a marker. The question's own pictures stay in their order, and so do the number of
        turns, the limits and everything else. Called for every question, in any order and again when a run continues:
        the result must depend on the arguments and the settings alone.

        Args:
            question: As its benchmark asks it, but with an empty ``reference``.
            resources: The items injected so far, and the one that the question is about.
        """
        return question

    def scale_update(self, model: InjectableModel, exported: Tensors, factor: float) -> Tensors:
        """Return what ``export`` returned with the update ``factor`` times as large, for rows such as lora:scaled-0.5.

        Default: every B times the factor; what is named like a weight of the base, on the line from there. A method
        with other trained parts must override it.

        Args:
            model: The untouched base.
            exported: What ``export`` returned; not changed.
            factor: 1 must give the same bits, and 0 the base's answers.
        """
        from methods.components.scaled_update import scaled_update

        return scaled_update(model, exported, factor)

    # What the harness and subclasses use; not hooks.

    @property
    def adapter_settings(self) -> AdapterSettings:
        """The settings of a method that is built on low-rank adapters.

        Raises:
            TypeError: It is not, so it must override ``attach`` and ``restore``.
        """
        if not isinstance(self.settings, AdapterSettings):
            raise TypeError(f"{type(self).__name__} has no adapter settings; override attach and restore")
        return self.settings

    def overrides(self, hook: str) -> bool:
        """Whether the method has its own version of a hook."""
        return getattr(type(self), hook) is not getattr(InjectionMethod, hook)

    def adapted(self, layers: LinearShapes) -> LinearShapes:
        """Those of the decoder's linear layers that the setting ``targets`` names; all for a method without it."""
        targets = getattr(self.settings, "targets", ALL)
        return layers if targets == ALL else layers.only(choose(layers.names, targets))

    def validate_layers(self, layers: LinearShapes) -> None:
        """Refuse settings that do not fit the decoder's linear layers, before anything is computed.

        Raises:
            UserError: A setting names layers that there are not, or a rank is too large for one.
        """
        self.adapted(layers)

    def adapter_parameters(self, layers: LinearShapes) -> int:
        """How many parameters of the adapter are trained; a rank given as ``parity:ROW`` is chosen by it.

        Default: r (d_in + d_out) for each layer, those of LoRA's A and B. The projector does not count.

        Args:
            layers: d_in and d_out of each linear layer that is adapted.
        """
        return self.adapter_settings.rank * sum(d_in + d_out for d_in, d_out in layers)

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """What the method needs in memory in a single stage, for the forecast of ``plan``.

        Default: A and B of each layer and the projector are trained, and nothing else is kept. Override it where
        statistics or a penalty keep more.

        Args:
            shapes: Sizes of the model, which is not loaded, with the linear layers that are adapted.

        Raises:
            TypeError: The method is not built on low-rank adapters.
        """
        settings = self.adapter_settings
        projector = shapes.projector if settings.projector_learning_rate > 0 else 0
        trained = self.adapter_parameters(shapes.linears) + projector
        return MemoryNeeds(trained, rank=settings.rank, dropout=settings.dropout > 0)

    def check_data(self, knowledge: Sequence[KnowledgeItem], divided: Sequence[KnowledgeItem] = ()) -> None:
        """Refuse training data that is not what it should be, before anything is computed.

        Args:
            knowledge: All items that the run injects.
            divided: All items of the knowledge file, if the run injects only some of them, or in stages.

        Raises:
            UserError: A branch of the knowledge tree is empty, or rows that must be divided by item belong to none.
        """
        for data in self.settings.training_data:
            if not self.settings.allow_empty_branches:
                datasets.check_branches(data, knowledge, self.name)
            if divided:
                datasets.check_items(data, divided)

    @classmethod
    def get_variant(cls, name: str) -> Variant | None:
        """The variant of this name, from ``variants`` or one of the families; None if there is none."""
        matches = (family.match(name) for family in cls.variant_families)
        return cls.variants.get(name) or next(filter(None, matches), None)

    @classmethod
    def default_rows(cls) -> tuple[str, ...]:
        """What ``--methods all-variants`` runs: the method, its complete variants, and the examples of each family."""
        examples = [family.prefix + value for family in cls.variant_families for value in family.examples]
        complete = [name for name, variant in cls.variants.items() if not variant.needs]
        return (cls.name, *(f"{cls.name}:{variant}" for variant in (*complete, *examples)))

    @classmethod
    def row_names(cls) -> tuple[str, ...]:
        """Every name that can be asked for; a family is named with its placeholder, such as ``lora:rate-LR``."""
        variants = (*cls.variants, *(family.name for family in cls.variant_families))
        return (cls.name, *(f"{cls.name}:{variant}" for variant in variants))

    def __init_subclass__(cls, register: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        validate_subclass(cls, InjectionMethod)
        if not register or not cls.__dict__.get("name"):
            return
        other = METHODS.get(cls.name)
        if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise UserError(
                f"two methods are named {cls.name!r}",
                location=f"{source_file(other)} and {source_file(cls)}",
                hint="rename one",
            )
        METHODS[cls.name] = cls
