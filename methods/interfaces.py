"""What a method is given and what it is configured with: the model, the resources of a cell, typed settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.errors import UserError
from benchmarks.records import Conversation

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
    stage_state: Tensors
    """What ``export_stage_state`` gave at the end of the stage before; empty at the first."""

    def pretraining_samples(self, count: int, purpose: str) -> Sequence[Conversation]:
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
            raise UserError(problem, location=f"setting {name}", hint="choose a sensible value")


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
