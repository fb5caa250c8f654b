"""Conversations as training batches."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from benchmarks.errors import UserError
from benchmarks.records import Conversation
from harness.config.schema import TrainingSettings

if TYPE_CHECKING:
    from harness.models.base import Batch, LanguageVisionModel

WINDOW = 16
"""Batches within which samples are sorted by length."""


def length_grouped(lengths: Sequence[int], batch_size: int, seed: int) -> list[list[int]]:
    """One epoch: each index once, in batches of similar lengths, in random order.

    Indices are shuffled, sorted by length within windows of 16 batches and cut; the batches are shuffled. An incomplete
    batch can come anywhere.
    """
    rng = random.Random(seed)
    order = list(range(len(lengths)))
    rng.shuffle(order)
    window = WINDOW * batch_size
    batches = []
    for start in range(0, len(order), window):
        by_length = sorted(order[start : start + window], key=lengths.__getitem__)
        batches += [by_length[i : i + batch_size] for i in range(0, len(by_length), batch_size)]
    rng.shuffle(batches)
    return batches


class ConversationBatches:
    """Conversations in length-grouped batches, each conversation once an epoch.

    Args:
        model: Encodes each text once and, unless its vision tower is trained, each picture once; the method must be
            attached already.
        conversations: The training data.
        settings: Epochs and batch size.
        seed: Of the order.
        share: Rank of this process and number of processes that share the rows of each step.

    Raises:
        UserError: There is nothing to learn.
    """

    def __init__(
        self,
        model: LanguageVisionModel,
        conversations: Sequence[Conversation],
        settings: TrainingSettings,
        seed: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        if not conversations:
            raise UserError(
                "there is nothing to learn", location="training data", hint="give at least one conversation"
            )
        self._model, self._conversations, self._share = model, conversations, share
        self._vision_cache = None if model.vision_is_trained else model.vision_cache()
        lengths = [
            model.prompt_length([turn.text for turn in sample.turns], sample.pictures) for sample in conversations
        ]
        self._steps = [
            rows
            for epoch in range(settings.epochs)
            for rows in length_grouped(lengths, settings.batch_size, seed * 1_000_003 + epoch)
        ]
        self.steps = len(self._steps)

    def micro_batches(self, step: int, limit: int) -> Iterator[Batch]:
        """This process's conversations of one optimiser step, at most ``limit`` at a time.

        Every process gets the same number of micro-batches, because all of them gather sharded weights in each.
        """
        rows, (rank, world_size) = self._steps[step], self._share
        own_rows, most = rows[rank::world_size], -(-len(rows) // world_size)
        for start in range(0, most, limit):
            part = [self._conversations[row] for row in own_rows[start : start + limit]]
            yield self._model.training_batch(part, self._vision_cache) if part else self._unsupervised(rows[0])

    def _unsupervised(self, row: int) -> Batch:
        """A conversation without supervised tokens; the batch still says which one it is."""
        batch = self._model.training_batch([self._conversations[row]], self._vision_cache)
        return batch.replace(labels=torch.full_like(batch["labels"], -100))
