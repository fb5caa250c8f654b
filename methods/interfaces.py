"""What a method receives: the model, the resources of a run, and its settings. ``methods.base`` exports all of it."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

from benchmarks.errors import UserError
from benchmarks.records import Conversation, KnowledgeItem, Picture, Question
from methods.augmentation import datasets
from methods.batch import Batch as Batch
from methods.targets import ALL, CHOICES, problem_of

if TYPE_CHECKING:
    import torch

Tensor: TypeAlias = "torch.Tensor"
Tensors: TypeAlias = "dict[str, torch.Tensor]"
"""Tensors by name."""


class InjectableModel(Protocol):
    """A language-vision model as a method sees it. ``harness.models`` implements it."""

    module: torch.nn.Module
    """The Hugging Face model. A method may replace modules inside it and must undo that in ``detach``."""
    device: torch.device
    folder: Path | None
    """Where its weights were read from; None for a model that has no folder, whose weights are exact in memory."""

    @property
    def linear_targets(self) -> str:
        """Full-match pattern over module names: every linear layer of the language decoder and nothing else."""

    @property
    def projector(self) -> str:
        """Leaf name of the vision-to-language projector, such as ``multi_modal_projector``."""

    @property
    def towers(self) -> frozenset[str]:
        """Parts of module names: below them, apart from the projector, are encoders, which stay frozen."""

    def training_batch(self, conversations: Sequence[Conversation]) -> Batch:
        """Right-padded batch, with each row's conversation; ``labels`` are -100 where there is nothing to learn."""

    def prompt_batch(self, conversations: Sequence[Conversation]) -> Batch:
        """Right-padded batch of the first user turns, without answers and ``labels``; for calibration."""

    def supervised(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Forward pass: logits (n, vocabulary) and targets (n,) at the n positions that have a label."""


class Resources(Protocol):
    """What a method may ask the harness for."""

    seed: int
    """Seed of the run; the same at every injection stage."""
    stage: int
    """Number of the injection stage, from 1."""
    stages: int
    """Total number of injection stages."""
    all_items: Sequence[KnowledgeItem]
    """The items of the knowledge file, whatever the stage and the limit; empty where nothing is divided."""
    stage_state: Tensors
    """What ``export_stage_state`` returned at the end of the previous stage; empty at the first."""

    knowledge: Sequence[KnowledgeItem]
    """The items that this stage injects, for a method that computes its update from them instead of training."""

    def pool_samples(self, count: int, purpose: str) -> Sequence[Conversation]:
        """Draw ``count`` samples other than the new knowledge; each purpose gets different ones.

        The purpose ``calibration`` draws from the run's calibration pool (``data.calibration``), evenly from its
        sources: prompts on which inputs are measured, whose answers nobody reads. Any other purpose (``replay``,
        ``fisher``, ``pseudo-task``, ...) draws from the replay pool (``data.replay``): its answers are learned, or
        their gradients taken, in place of the task that the base was trained on. The method must name the pool in
        ``pools``.

        Raises:
            UserError: It does not, or the preset has no such pool, or too small a one.
        """

    def benchmark_prompts(self, benchmark: str, count: int, *, as_in_table: bool = False) -> Sequence[Conversation]:
        """Draw up to ``count`` questions of a benchmark: first turns only, without references.

        The method must name the benchmark in ``evaluation_inputs``. ``as_in_table`` gives the first picture and the
        question column of the benchmark's table instead of the prompt, which adds options and instructions.

        Raises:
            UserError: It does not, or the benchmark has no table.
        """

    def cached(self, key: Mapping[str, Any], compute: Callable[[], Tensors]) -> Tensors:
        """Return the tensors stored for this key, base model and code; call ``compute`` if there are none yet."""


class AskingResources(Protocol):
    """What ``ask`` may use, and nothing else: it can draw no samples, and sees one question at a time."""

    seed: int
    """Seed of the run."""
    knowledge: Sequence[KnowledgeItem]
    """The items that were injected so far, those of earlier stages included; the same object for all questions."""

    def item_of(self, question: Question) -> KnowledgeItem | None:
        """The injected item that a question asks about; None if it asks about none of ``knowledge``.

        A method that uses it for more than leaving the item out sets ``oracle``.
        """

    def picture_features(self, pictures: Sequence[Picture]) -> Tensor:
        """(n, d) float32 on the CPU: the output of the model's vision tower, averaged over each picture's tokens."""


_BOUNDS: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "gt": ("greater than", operator.gt),
    "ge": ("of at least", operator.ge),
    "lt": ("less than", operator.lt),
    "le": ("of at most", operator.le),
    "choices": ("out of", lambda value, choices: value in choices),
}


SETTING = "setting "
"""What the location of an error about a method's setting begins with."""


def setting(
    default: Any, help: str, *, unit: str = "", source: str = "", keyed_at_default: bool = True, **bounds: Any
) -> Any:
    """Declare a setting: a dataclass field with documentation and bounds.

    Args:
        default: Its value unless the user sets another one.
        help: What it does.
        unit: Such as "samples", "components", "layers" or "epochs"; ``check-method`` lowers these to suit a tiny model.
        source: Where the default comes from: a paper, a script, or "ours".
        keyed_at_default: False for a setting that was added later, and at its default changes nothing: only other
            values are then part of cache keys, so that earlier results are found again.
        bounds: ``gt``, ``ge``, ``lt`` and ``le`` as in pydantic, or ``choices``. Floats must be finite in any case.
    """
    if unknown := bounds.keys() - _BOUNDS.keys():
        raise TypeError(f"setting has no argument {', '.join(sorted(unknown))}")
    about = {"help": help, "unit": unit, "source": source, "keyed_at_default": keyed_at_default}
    return dataclasses.field(default=default, metadata={**about, **bounds})


@dataclasses.dataclass(frozen=True)
class MethodSettings:
    """Settings of every method."""

    data_settings: ClassVar[tuple[str, ...]] = ("data",)
    """The settings that name training data, as an augmentation or a path; a subclass adds its own."""

    learning_rate: float = setting(
        2e-4, "peak learning rate of the language model's trained part", source="KORE table 7", gt=0
    )
    projector_learning_rate: float = setting(
        2e-5, "peak learning rate of the projector; 0 freezes it", source="LLaVA", ge=0
    )
    weight_decay: float = setting(0.0, "AdamW weight decay", source="KORE table 7", ge=0)
    data: str = setting(
        "evoke",
        "training conversations: evoke (as published), kore (the knowledge tree), a part of it (kore-BRANCH, "
        "kore-without-BRANCH, kore-N-rounds), kore-negatives, kore-relations, kore-wrong-PERCENT, question-answer, "
        "numbered-facts, text-agnostic, text-aware, image-agnostic, image-aware, or a folder that augment wrote",
        source="KORE section 3.2",
    )
    allow_empty_branches: bool = setting(
        False, "accept a knowledge tree without, say, short questions, as from items without facts", source="ours"
    )

    def __post_init__(self) -> None:
        # The fields of all parents, so that a subclass that only changes a default keeps the inherited bounds.
        classes = filter(dataclasses.is_dataclass, type(self).__mro__)
        for field in (field for cls in classes for field in dataclasses.fields(cls)):
            value = getattr(self, field.name)
            bounds = [(*_BOUNDS[name], limit) for name, limit in field.metadata.items() if name in _BOUNDS]
            words = " and ".join(f"{relation} {limit}" for relation, _, limit in bounds)
            finite = not isinstance(value, float) or math.isfinite(value)
            self.check(field.name, finite, f"choose a finite value {words}".rstrip())
            within = value is None or all(holds(value, limit) for _, holds, limit in bounds)
            self.check(field.name, within, f"choose a value {words}")
        for data in self.training_data:
            datasets.check(data)

    @property
    def training_data(self) -> tuple[str, ...]:
        """The values of ``data_settings`` that are not empty."""
        return tuple(filter(None, (getattr(self, name) for name in self.data_settings)))

    def check(self, name: str, valid: bool, hint: str = "it does not fit the other settings") -> None:
        """Refuse the value of a setting unless it is valid; for rules over several settings, in ``__post_init__``.

        Raises:
            UserError: ``valid`` is false.
        """
        if not valid:
            raise UserError(f"{name} cannot be {getattr(self, name)!r}", location=f"{SETTING}{name}", hint=hint)

    def cache_key(self) -> dict[str, Any]:
        """The settings by content: a folder of training data is replaced by its digest."""
        named = {name: getattr(self, name) for name in self.data_settings}
        unkeyed = {
            field.name
            for field in dataclasses.fields(self)
            if not field.metadata.get("keyed_at_default", True) and getattr(self, field.name) == field.default
        }
        return {
            **{name: value for name, value in dataclasses.asdict(self).items() if name not in unkeyed},
            **{name: datasets.identity(data) if data else data for name, data in named.items()},
        }


@dataclasses.dataclass(frozen=True)
class TargetedSettings(MethodSettings):
    """Settings of every method that adapts linear layers."""

    targets: str = setting(
        ALL,
        f"linear layers of the decoder that are adapted: {CHOICES}",
        source="LLaVA finetune_task_lora.sh",
        keyed_at_default=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        problem = problem_of(self.targets)
        self.check("targets", not problem, problem)

    @property
    def narrowing(self) -> dict[str, str]:
        """For the keys of statistics: ``targets`` where it is not all layers, and else nothing."""
        return {} if self.targets == ALL else {"targets": self.targets}


@dataclasses.dataclass(frozen=True)
class AdapterSettings(TargetedSettings):
    """Settings of every method built on low-rank adapters."""

    rank: int = setting(128, "rank r of the adapter", source="KORE table 7", ge=1)
    alpha: float = setting(256.0, "numerator of the scaling alpha / r", source="LLaVA finetune_task_lora.sh", gt=0)
    dropout: float = setting(
        0.0, "dropout on the adapter's input", source="ours; LLaVA: 0.05, LLaMA-Factory: 0", ge=0, lt=1
    )
