"""A method of knowledge injection: the few hooks it may fill in. All defaults together are LoRA.

Importing this module, or any method, imports no torch: hooks import what they need when they run, so that listing the
methods stays instant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from benchmarks.errors import UserError
from benchmarks.records import Conversation, KnowledgeItem
from methods.hook_signatures import origin, refuse_misfits
from methods.variants import Coefficient as Coefficient
from methods.variants import Pattern as Pattern
from methods.variants import Variant as Variant

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]
    Batch = dict[str, torch.Tensor]


class InjectableModel(Protocol):
    """What a method sees of a language-vision model (``harness.models`` implements it)."""

    module: torch.nn.Module
    """The Hugging Face model; a method may wrap it with PEFT and must undo that in ``detach``."""
    device: torch.device

    @property
    def linear_targets(self) -> str:
        """Full-match pattern over module names: each linear layer of the language decoder, none of the vision tower."""

    @property
    def projector(self) -> str:
        """Leaf name of the vision-to-language projector, e.g. ``multi_modal_projector``."""

    def training_batch(self, conversations: Sequence[Conversation]) -> Batch:
        """Right-padded tensors with ``labels`` (batch, tokens), -100 wherever there is nothing to learn."""

    def prompt_batch(self, conversations: Sequence[Conversation]) -> Batch:
        """Right-padded first user turns without answers, as calibration sees them; ``attention_mask`` marks padding."""

    def supervised(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (n, vocabulary) and targets (n,) at the n supervised positions alone."""


class Resources(Protocol):
    """What a method may ask of its surroundings."""

    seed: int
    """The cell's; the same at every injection stage."""
    stage: int
    """Number of the injection stage, from 1."""
    stages: int
    """How many there are."""
    carried: Tensors
    """What ``after_training`` gave at the end of the stage before; empty at the first."""

    def old_data(self, count: int, purpose: str) -> Sequence[Conversation]:
        """``count`` samples of what the base was pre-trained on; other purposes get disjoint samples.

        Raises:
            UserError: The preset has no old data, or too little.
        """

    def benchmark_prompts(self, benchmark: str, count: int) -> Sequence[Conversation]:
        """First turns of at most ``count`` questions of a benchmark, drawn by the seed, without their references.

        Whoever asks must name the benchmark in ``evaluation_inputs``.

        Raises:
            UserError: There is no such benchmark.
        """

    def cached(self, key: Mapping[str, Any], compute: Callable[[], Tensors]) -> Tensors:
        """The tensors stored under ``key`` plus the base model's fingerprint, computed at the first call."""


def setting(default: Any, help: str, *, unit: str = "", source: str = "") -> Any:
    """A field of a method's settings, with what a reader needs to know about it."""
    return dataclasses.field(default=default, metadata={"help": help, "unit": unit, "source": source})


@dataclasses.dataclass(frozen=True)
class MethodSettings:
    """Settings of every method."""

    learning_rate: float = setting(2e-4, "peak learning rate of what is trained in the language model", source="KORE 7")
    projector_learning_rate: float = setting(2e-5, "peak learning rate of the projector; 0 freezes it", source="LLaVA")
    weight_decay: float = setting(0.0, "AdamW weight decay", source="KORE table 7")
    data: str = setting(
        "evoke",
        "training conversations: evoke (as published), kore (the knowledge tree), kore-negatives, kore-relations, "
        "text-agnostic, text-aware, image-agnostic, or a folder that augment wrote",
        source="KORE section 3.2",
    )

    def __post_init__(self) -> None:
        infinite = float("inf")
        self.check("learning_rate", 0 < self.learning_rate < infinite)
        self.check("projector_learning_rate", 0 <= self.projector_learning_rate < infinite)
        self.check("weight_decay", 0 <= self.weight_decay < infinite)
        from methods.augmentation import datasets as choices

        choices.check(self.data)

    def recipe(self) -> dict[str, Any]:
        """These settings by content: a folder of training data stands for what is in it, wherever it lies."""
        from methods.augmentation import datasets as choices

        return {**dataclasses.asdict(self), "data": choices.identity(self.data)}

    def check(self, name: str, good: bool) -> None:
        """Refuse a value that makes no sense.

        Raises:
            UserError: ``good`` is false.
        """
        if not good:
            problem = f"{name} cannot be {getattr(self, name)!r}"
            raise UserError(problem, where=f"setting {name}", mend="choose a sensible value")


@dataclasses.dataclass(frozen=True)
class AdapterSettings(MethodSettings):
    """Settings shared by every method built on low-rank adapters."""

    rank: int = setting(128, "rank r of the adapter", source="KORE table 7")
    alpha: float = setting(256.0, "numerator of the scaling alpha / r", source="LLaVA finetune_task_lora.sh")
    dropout: float = setting(0.0, "dropout on the adapter's input", source="LLaVA uses 0.05; 0 keeps runs comparable")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("rank", self.rank >= 1)
        self.check("alpha", 0 < self.alpha < float("inf"))
        self.check("dropout", 0 <= self.dropout < 1)


@dataclasses.dataclass(frozen=True)
class Paper:
    """Where a method comes from."""

    title: str
    link: str


_REGISTRY: dict[str, type[InjectionMethod]] = {}


class InjectionMethod:
    """A way to teach a model new knowledge. Subclass it and give it a ``name``: that registers it.

    Every hook has a default; all defaults together are LoRA with a trained projector.

    Args:
        settings: An instance of the class's ``Settings``.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    paper: ClassVar[Paper]
    our_reading: ClassVar[str] = ""
    """What is our interpretation rather than the authors'; shown in ``list`` and in the report."""
    Settings: ClassVar[type[MethodSettings]] = AdapterSettings
    variants: ClassVar[Mapping[str, Variant]] = {}
    patterns: ClassVar[tuple[Pattern, ...]] = ()
    coefficient: ClassVar[Coefficient | None] = None

    def __init__(self, settings: MethodSettings) -> None:
        self.settings = settings

    @property
    def adapter(self) -> AdapterSettings:
        """The settings of a method that is built on low-rank adapters.

        Raises:
            TypeError: It is not, so it must fill in the hooks whose defaults need them.
        """
        if not isinstance(self.settings, AdapterSettings):
            raise TypeError(f"{type(self).__name__} has no adapter settings; fill in attach and restore")
        return self.settings

    @property
    def evaluation_inputs(self) -> tuple[str, ...]:
        """Benchmarks whose questions it reads; such a row is marked transductive and never ranked. Default: none."""
        return ()

    @property
    def known_exceptions(self) -> Mapping[str, str]:
        """Checks of the contract that it cannot pass with these settings, each with the reason. Default: none."""
        return {}

    @classmethod
    def variant(cls, name: str) -> Variant | None:
        """The variant of this name, a fixed one or one of a family; None where there is none."""
        found = (pattern.variant(name) for pattern in cls.patterns)
        return cls.variants.get(name) or next(filter(None, found), None)

    @classmethod
    def worth_a_row(cls) -> tuple[str, ...]:
        """The method itself, its variants, and the examples of each family, as ``--methods`` takes them."""
        examples = [pattern.prefix + value for pattern in cls.patterns for value in pattern.examples]
        return (cls.name, *(f"{cls.name}:{variant}" for variant in (*cls.variants, *examples)))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_misfits(cls, InjectionMethod)
        if not cls.__dict__.get("name"):
            return
        known = _REGISTRY.get(cls.name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise UserError(
                f"two methods are named {cls.name!r}",
                where=f"{origin(known)} and {origin(cls)}",
                mend="rename one",
            )
        _REGISTRY[cls.name] = cls

    # The hooks, in the order in which they are called. Each injection stage has an instance of its own.

    def training_data(self, knowledge: Sequence[KnowledgeItem], resources: Resources) -> list[Conversation]:
        """The conversations to train on. Default: as the setting ``data`` says; ids tell samples apart."""
        from methods.augmentation import datasets as choices

        return choices.conversations(self.settings.data, knowledge, resources.seed)

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """Statistics to gather on the untouched base (Fisher, covariances). Default: none."""
        return {}

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """Put the trainable parts in place and set ``requires_grad``. Default: LoRA on every decoder linear.

        Random initial values follow ``torch.initial_seed()``: the caller seeds torch before this hook and ``prepare``.
        """
        from methods.components.lora_layers import attach_lora

        attach_lora(model, self.adapter)

    def go_on(self, model: InjectableModel, earlier: Tensors) -> None:
        """Right after ``attach``, from the second stage on: begin where the stage before ended.

        Default: the same adapter goes on being trained, which is plain sequential fine-tuning.

        Args:
            model: With this stage's adapter attached.
            earlier: What ``export`` gave at the end of the stage before.
        """
        from methods.components.lora_layers import load_adapter

        load_adapter(model, earlier)

    def penalty(self, model: InjectableModel, batch: Batch, logits: torch.Tensor) -> torch.Tensor | None:
        """A scalar added to the mean token loss of each optimiser step. Default: none.

        Called for each micro-batch, with its logits (n, vocabulary) at the n supervised positions. The training core
        weighs what it returns by the micro-batch's share of the step's supervised tokens, so that a mean over tokens
        and a function of the parameters alone both come out the same however the step is cut.
        """
        return None

    def after_training(self, model: InjectableModel) -> Tensors:
        """State for the next stage, beside the adapter itself; not asked for after the last. Default: none.

        The adapter is attached, in eval mode, and exported already: whatever this does to it is lost.
        """
        return {}

    def figures(self, prepared: Tensors) -> dict[str, float]:
        """What ``prepare`` found out that the report should show, by name. Default: nothing."""
        return {}

    # How what was learnt is taken out of the model and put back.

    def parameter_groups(self, model: InjectableModel) -> Iterator[dict[str, Any]]:
        """AdamW parameter groups (``params``, ``lr``, ``weight_decay``, ``names``) over all that is trained."""
        from methods.components.lora_layers import parameter_groups

        yield from parameter_groups(model, self.settings)

    def export(self, model: InjectableModel) -> Tensors:
        """All tensors that make the trained model differ from the base."""
        from methods.components.lora_layers import export_adapter

        return export_adapter(model)

    def restore(self, model: InjectableModel, tensors: Tensors) -> None:
        """Attach and load what ``export`` gave, ready to answer. Default: as LoRA."""
        from methods.components.lora_layers import attach_lora, load_adapter

        attach_lora(model, self.adapter)
        load_adapter(model, tensors)

    def detach(self, model: InjectableModel) -> None:
        """Leave the base as it was before ``attach``, bit for bit."""
        from methods.components.lora_layers import detach_adapter

        detach_adapter(model)


def as_published(item: KnowledgeItem) -> Conversation:
    """EVOKE's own training sample: the item's question with its picture, answered by the knowledge text."""
    from methods.augmentation.branches import published

    return published(item)


def registered() -> dict[str, type[InjectionMethod]]:
    """All methods by name, those of this package first, then those of installed packages."""
    from methods import registry as catalogue

    catalogue.load_installed()
    return dict(_REGISTRY)
