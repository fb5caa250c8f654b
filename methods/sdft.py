"""SDFT: self-distillation, in which the model that is shown an item teaches the one that is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.errors import UserError
from benchmarks.records import Conversation, KnowledgeItem, Question, Turn
from methods.augmentation.datasets import items_of
from methods.base import (
    AdapterSettings,
    Batch,
    DecoderShapes,
    InjectableModel,
    InjectionMethod,
    MemoryNeeds,
    MethodSettings,
    Paper,
    Resources,
    Tensor,
    Tensors,
    Variant,
    setting,
)
from methods.components.divergence import DISTRIBUTIONS, divergence
from methods.context import put_items_before

if TYPE_CHECKING:
    from methods.components.earlier_model import EarlierModel


@dataclasses.dataclass(frozen=True)
class SDFTSettings(AdapterSettings):
    """LoRA's settings, and how teacher and student are compared."""

    divergence: str = setting(
        "forward",
        "forward is KL(teacher || student), reverse is KL(student || teacher)",
        source="the authors' README: forward in all their results; arXiv v1 prints reverse",
        choices=("forward", "reverse"),
    )


class SDFT(InjectionMethod):
    """LoRA towards the model's own distributions with the item in the prompt: the loss is their divergence alone.

    Paper: Shenfeld et al., "Self-Distillation Enables Continual Learning", 2026, arXiv 2601.19897.
    Interpretation: the teacher is asked the same question with the item's text before it, as ``golden-context`` asks
        without pictures. Both are compared at each token of the answers in the data, over the whole vocabulary.
    Differences: the authors sample the answers from the student at every step; here they are those of the data, so that
        what on-policy sampling adds is not measured: a loss sees what was forwarded, and processes that share a model
        need equally many forward passes. The teacher is the untouched base (TRL's ``teacher_model_kind="base"``), from
        the second stage on the model at the end of the previous one; the authors' is a moving average of the student.
        They leave out the first three tokens of an answer and train all weights. A conversation over two items shows
        the teacher the first.
    Cost: one more forward pass a step over longer rows, in which the vision tower reads each picture again.
    """

    name = "sdft"
    summary = "LoRA towards what the model itself says when it is shown the item"
    paper = Paper("Self-Distillation Enables Continual Learning", "https://arxiv.org/abs/2601.19897")
    interpretation = (
        "teacher: the base with the item's text in the prompt; compared at the answers of the data, where the authors "
        "sample from the student, with forward KL as in their results"
    )
    Settings = SDFTSettings
    settings: SDFTSettings
    variants: ClassVar[Mapping[str, Variant]] = {
        "reverse": Variant({"divergence": "reverse"}, "KL(student || teacher), as the paper's first version prints it"),
    }
    _teacher: EarlierModel

    def __init__(self, settings: MethodSettings) -> None:
        super().__init__(settings)
        self._shown: dict[str, Conversation] = {}
        """Each conversation with its item in the prompt, by id."""

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """As for LoRA, and the teacher's logits, both distributions, and the terms of the divergence."""
        return super().memory_needs(shapes).plus(vocabulary_copies=DISTRIBUTIONS)

    def training_data(self, knowledge: Sequence[KnowledgeItem], resources: Resources) -> list[Conversation]:
        """The data that the setting names; each conversation must be about an item."""
        data = super().training_data(knowledge, resources)
        items = items_of(self.settings.data, data, knowledge)
        missing = [sample.id for sample in data if sample.id not in items]
        if missing:
            raise UserError(
                f"{len(missing):,} of {len(data):,} conversations are about none of the items, such as {missing[0]!r}",
                location=f"{self.name}.data ({self.settings.data})",
                hint="name the item of each in a column item, or begin its id with the item's and a slash",
            )
        self._shown = {sample.id: show_item(sample, items[sample.id]) for sample in data}
        return data

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """Nothing is measured; the longest conversation with its item must fit into the model's window."""
        if self._shown:
            longest = max(self._shown.values(), key=lambda sample: sum(len(turn.text) for turn in sample.turns))
            width = model.training_batch([longest])["input_ids"].shape[1]
            config: Any = model.module.config
            window = getattr(config.get_text_config(), "max_position_embeddings", None) or width
            if width > window:
                raise UserError(
                    f"with its item in the prompt it has {width:,} tokens, and the model reads {window:,}",
                    location=f"conversation {longest.id}",
                    hint="shorten the item's text, or leave the item out",
                )
        return {}

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """LoRA; the teacher is the model without it."""
        from methods.components.earlier_model import EarlierModel

        self._teacher = EarlierModel()
        super().attach(model, prepared)

    def load_previous_stage(self, model: InjectableModel, exported: Tensors) -> None:
        """Continue with the same adapter; its current values become the teacher's."""
        super().load_previous_stage(model, exported)
        self._teacher.keep(model)

    def loss(self, model: InjectableModel, batch: Batch, logits: Tensor, targets: Tensor) -> tuple[Tensor, float]:
        """The divergence from the teacher, summed over the supervised tokens."""
        with self._teacher.active(model):
            teacher, same = model.supervised(self._teacher_batch(model, batch))
        if not same.equal(targets):
            raise RuntimeError("the answers of teacher and student are encoded differently")
        return divergence(teacher, logits, self.settings.divergence), len(targets)

    def _teacher_batch(self, model: InjectableModel, batch: Batch) -> Batch:
        """The rows of a batch with their items in the prompts; rows without labels stay without."""
        shown = model.training_batch([self._shown[name] for name, _ in groupby(batch.conversation_ids)])
        learned = (batch["labels"] != -100).any(1, keepdim=True)
        return shown.replace(labels=shown["labels"].masked_fill(~learned, -100))


def show_item(sample: Conversation, item: KnowledgeItem) -> Conversation:
    """The conversation with the item's text before the text of its first turn, in the form of golden context."""
    question = Question(sample.id, "", (sample.turns[0].text,), sample.pictures, "")
    (first,) = put_items_before(question, [item], show_pictures=False).turns
    return dataclasses.replace(sample, turns=(Turn("user", first), *sample.turns[1:]))
