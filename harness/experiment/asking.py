"""What a row asks the model in place of a benchmark's questions, for methods with the hook ``ask``."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.data.json_rows import MAX_LISTED
from benchmarks.errors import UserError
from benchmarks.records import KnowledgeItem, Picture, Question
from harness.data.inputs import BenchmarkTask
from harness.experiment.context import RunContext
from harness.experiment.limits import long_questions
from harness.experiment.stages import Stage, knowledge_after
from harness.storage.digests import digest, knowledge_digest
from harness.storage.source_code import code_digest
from harness.training.hook_checks import checked_question

if TYPE_CHECKING:
    import torch

    from methods.base import InjectionMethod

logger = logging.getLogger(__name__)

ASKED = "asked"
"""The kind of entry with the questions as they were asked, beside their answers; none where they are as they were."""


class CellAskingResources:
    """What ``ask`` may use. Satisfies ``methods.base.AskingResources``.

    Args:
        context: What the cells share; its model is loaded when picture features are first needed.
        stage: The stage after which the questions are asked.
    """

    def __init__(self, context: RunContext, stage: Stage) -> None:
        self._context, self.seed = context, stage.cell.seed
        self.knowledge: Sequence[KnowledgeItem] = knowledge_after(context, stage)
        self._items = {item.id: item for item in self.knowledge}
        self._features: dict[str, torch.Tensor] = {}

    def item_of(self, question: Question) -> KnowledgeItem | None:
        """The injected item that a question asks about; None if it asks about none of ``knowledge``."""
        return self._items.get(self._context.inputs.item_id_of(question))

    def picture_features(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """(n, d) float32 on the CPU: the output of the vision tower, averaged over each picture's tokens."""
        import torch

        from harness.models.picture_features import pooled_features

        missing = {each.sha256: each for each in pictures if each.sha256 not in self._features}
        if missing:
            features = pooled_features(self._context.model, list(missing.values()))
            self._features |= dict(zip(missing, features, strict=True))
        return torch.stack([self._features[each.sha256] for each in pictures])


class Asker:
    """Asks questions as a row does.

    Args:
        context: What the cells share.
        stage: The stage after which they are asked; None for the untouched base.
    """

    def __init__(self, context: RunContext, stage: Stage | None) -> None:
        self._context, self._stage = context, stage
        method = stage.cell.make() if stage else None
        self._method: InjectionMethod | None = method if method and method.overrides("ask") else None
        self._resources = CellAskingResources(context, stage) if stage and self._method else None

    @property
    def changes_questions(self) -> bool:
        """Whether the row has its own way of asking."""
        return self._method is not None

    def key(self, task: BenchmarkTask) -> dict[str, Any] | None:
        """What decides how a benchmark's questions are asked; None if that is as they are."""
        if self._stage is None or self._resources is None:
            return None
        return {
            "benchmark": [task.name, task.fingerprint],
            "knowledge": knowledge_digest(self._resources.knowledge),
            "items": digest(list(self._context.inputs.item_ids)),
            "training": digest(self._stage.training_key(self._context.cache_inputs)),
            "core": code_digest(Path(__file__)),
        }

    def ask(self, task: BenchmarkTask) -> tuple[Question, ...]:
        """A benchmark's questions as the row asks them.

        Raises:
            UserError: The method changed something else than texts and added pictures.
        """
        return tuple(map(self._ask, task.questions))

    def changes_any(self) -> bool:
        """Whether any question of the run is asked otherwise than the base is asked."""
        return any(
            self._ask(question) != question for task in self._context.inputs.tasks for question in task.questions
        )

    def check_lengths(self, questions: Sequence[Question], originals: Sequence[Question]) -> None:
        """Refuse questions that their context makes longer than the model can read, all of them together.

        Args:
            questions: As they are asked.
            originals: As the benchmark has them.

        Raises:
            UserError: Prompts do not fit into the model's window; it names the row and the questions.
        """
        from harness.models.context_window import context_window

        changed = [asked for asked, original in zip(questions, originals, strict=True) if asked != original]
        found = long_questions(self._context.model, changed) if self._stage else []
        if self._stage is None or not found:
            return
        if self._context.settings.answering.allow_long:
            message = "%s: with their context %d questions are longer than the model's window"
            logger.warning(message, self._stage.title, len(found))
            return
        listed = "".join(f"\n  {changed[0].benchmark}, question {each}" for each in found[:MAX_LISTED])
        raise UserError(
            f"with their context {len(found):,} questions do not fit into the model's window of "
            f"{context_window(self._context.model):,} tokens:{listed}",
            location=self._stage.title,
            hint="have the method put less before them, by its settings, use a model that reads more, or set "
            "answering.allow_long=true",
        )

    def _ask(self, question: Question) -> Question:
        if self._method is None or self._resources is None or self._stage is None:
            return question
        shown = dataclasses.replace(question, reference="")
        return checked_question(question, self._method.ask(shown, self._resources), self._stage.title)


def asked_rows(questions: Sequence[Question]) -> list[list[Any]]:
    """Questions as plain JSON: id, texts of the turns, and the pictures by their content."""
    return [
        [question.id, list(question.turns), [picture.sha256 for picture in question.pictures]] for question in questions
    ]
