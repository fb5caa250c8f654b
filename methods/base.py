"""A method of knowledge injection: the few hooks it may fill in. All defaults together are LoRA.

Importing this module, or any method, imports no torch: hooks import what they need when they run, so that listing the
methods stays instant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.errors import UserError
from benchmarks.records import Conversation, KnowledgeItem
from methods.hook_signatures import origin, validate_subclass
from methods.interfaces import AdapterSettings as AdapterSettings
from methods.interfaces import InjectableModel as InjectableModel
from methods.interfaces import MethodSettings as MethodSettings
from methods.interfaces import Resources as Resources
from methods.interfaces import setting as setting
from methods.variants import Coefficient as Coefficient
from methods.variants import Variant as Variant
from methods.variants import VariantFamily as VariantFamily

if TYPE_CHECKING:
    import torch

    from methods.interfaces import Batch, Tensors


@dataclasses.dataclass(frozen=True)
class Paper:
    """Where a method comes from."""

    title: str
    link: str


METHODS: dict[str, type[InjectionMethod]] = {}


class InjectionMethod:
    """A way to teach a model new knowledge. Subclass it and give it a ``name``: that registers it.

    Every hook has a default; all defaults together are LoRA with a trained projector.

    Args:
        settings: An instance of the class's ``Settings``.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    paper: ClassVar[Paper]
    interpretation: ClassVar[str] = ""
    """What is our interpretation rather than the authors'; shown in ``list`` and in the report."""
    Settings: ClassVar[type[MethodSettings]] = AdapterSettings
    variants: ClassVar[Mapping[str, Variant]] = {}
    variant_families: ClassVar[tuple[VariantFamily, ...]] = ()
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
    def expected_failures(self) -> Mapping[str, str]:
        """Checks of the contract that it cannot pass with these settings, each with the reason. Default: none."""
        return {}

    @classmethod
    def variant(cls, name: str) -> Variant | None:
        """The variant of this name, a fixed one or one of a family; None where there is none."""
        found = (pattern.variant(name) for pattern in cls.variant_families)
        return cls.variants.get(name) or next(filter(None, found), None)

    @classmethod
    def default_rows(cls) -> tuple[str, ...]:
        """The method itself, its variants, and the examples of each family, as ``--methods`` takes them."""
        examples = [pattern.prefix + value for pattern in cls.variant_families for value in pattern.examples]
        return (cls.name, *(f"{cls.name}:{variant}" for variant in (*cls.variants, *examples)))

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        validate_subclass(cls, InjectionMethod)
        if not cls.__dict__.get("name"):
            return
        known = METHODS.get(cls.name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise UserError(
                f"two methods are named {cls.name!r}",
                location=f"{origin(known)} and {origin(cls)}",
                hint="rename one",
            )
        METHODS[cls.name] = cls

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

    def load_previous_stage(self, model: InjectableModel, earlier: Tensors) -> None:
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

    def export_stage_state(self, model: InjectableModel) -> Tensors:
        """State for the next stage, beside the adapter itself; not asked for after the last. Default: none.

        The adapter is attached, in eval mode, and exported already: whatever this does to it is lost.
        """
        return {}

    def diagnostics(self, prepared: Tensors) -> dict[str, float]:
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
