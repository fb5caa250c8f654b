"""What the checks of a model look at: the plain call's results, and the model as its family loads it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from benchmarks.errors import UserError
from benchmarks.records import Conversation
from harness.conformance.errors import HookError, Inconclusive
from harness.conformance.model_samples import prompts, samples
from harness.conformance.plain_call import PlainCall, PlainRow
from harness.models.base import Batch, Dialogue, LanguageVisionModel
from harness.models.loading import quiet_loading
from harness.models.structure import ModelStructure, find_structure

T = TypeVar("T")


class Plain(NamedTuple):
    """What the plain call computes.

    Attributes:
        rows: Of each dialogue that the model takes, with its answers.
        prompt_ids: Ids of each beginning of a dialogue.
        answers: Text of the answer to each.
        stops: Ids that end an answer.
        structure: The parts of the model, or None if they are not where transformers puts them.
        linears: Names of the linear layers in the decoder's layers.
    """

    rows: dict[str, list[PlainRow]]
    prompt_ids: dict[str, list[int]]
    answers: dict[str, str]
    stops: frozenset[int]
    structure: ModelStructure | None
    linears: frozenset[str]


class ModelScenarios:
    """A model folder, by a family and by the plain call; everything is computed when first needed.

    Args:
        folder: Local folder in Hugging Face layout.
        family: The family that is checked.
        device: Where to compute.
    """

    def __init__(self, folder: Path, family: type[LanguageVisionModel], device: torch.device) -> None:
        self.folder, self.family, self.device = folder, family, device

    @cached_property
    def model(self) -> LanguageVisionModel:
        """The model as the family loads it, in float32.

        Raises:
            Inconclusive: It does not load.
        """
        return self.call("load", lambda: self.family.load(self.folder, self.device, torch.float32))

    @cached_property
    def plain(self) -> Plain:
        """The plain call's results; its own copy of the model is dropped afterwards.

        Raises:
            Inconclusive: It fails.
        """
        template = self.model.own_template
        try:
            call = PlainCall(self.folder, self.device, template)
            rows = {name: value for name, each in samples().items() if (value := _taken(call.training, each))}
            kept = {name: each for name, each in prompts().items() if name.rpartition(",")[0] in rows}
            ids = {name: call.prompt_ids(*each) for name, each in kept.items()}
            answers = {name: call.answer(*each) for name, each in kept.items()}
        except UserError as error:
            raise Inconclusive(f"the plain call fails: {error.message}") from error
        structure = _structure(call.module)
        return Plain(rows, ids, answers, frozenset(call.stops), structure, _linears(call.module, structure))

    @property
    def samples(self) -> dict[str, Conversation]:
        """The dialogues that the model takes, by the plain call's judgement."""
        return {name: each for name, each in samples().items() if name in self.plain.rows}

    @property
    def prompts(self) -> dict[str, Dialogue]:
        """Their beginnings."""
        return {name: each for name, each in prompts().items() if name in self.plain.answers}

    def batch(self, *conversations: Conversation) -> Batch:
        """The family's training batch."""
        return self.call("training_batch", lambda: self.model.training_batch(conversations))

    def prompt_batch(self, dialogues: list[Dialogue]) -> Batch:
        """The family's prompts of these dialogues."""
        return self.call("generation_batch", lambda: self.model.generation_batch(dialogues))

    @torch.no_grad()
    def logits(self, *conversations: Conversation) -> torch.Tensor:
        """The family's logits at the supervised positions, on the CPU."""
        batch = self.batch(*conversations)
        return self.call("supervised", lambda: self.model.supervised(batch)[0].cpu())

    def answers(
        self, dialogues: list[Dialogue], limits: int | list[int], penalties: list[float | None] | None = None
    ) -> list[tuple[str, int, bool]]:
        """What the family generates for these dialogues in one batch."""
        batch = self.prompt_batch(dialogues)
        with quiet_loading():
            return self.call("generate", lambda: self.model.generate(batch, limits, None, penalties))

    def call(self, hook: str, function: Callable[[], T]) -> T:
        """Call a function of the family.

        Raises:
            HookError: It raises anything.
        """
        try:
            return function()
        except Exception as error:  # a family's code may raise anything
            raise HookError(hook, error) from error


def _taken(function: Callable[[Conversation], list[PlainRow]], sample: Conversation) -> list[PlainRow]:
    """The rows of a dialogue; none if the model takes no such dialogue, such as one without pictures."""
    try:
        return function(sample)
    except UserError:
        return []


def _structure(module: torch.nn.Module) -> ModelStructure | None:
    try:
        return find_structure(module)
    except UserError:
        return None


def _linears(module: torch.nn.Module, structure: ModelStructure | None) -> frozenset[str]:
    if structure is None:
        return frozenset()
    prefix = f"{structure.decoder}.layers."
    return frozenset(
        name for name, part in module.named_modules() if name.startswith(prefix) and isinstance(part, torch.nn.Linear)
    )
