"""What a method may ask of its surroundings: old data, and a place for statistics that are dear to compute."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation, Question, Turn
from harness.data.pretraining_data import PretrainingData
from harness.storage.digests import sample_digest
from harness.storage.store import Store

if TYPE_CHECKING:
    import torch

PREPARED = "prepared"
"""The kind of entry that ``CellResources.cached`` keeps."""
PATIENCE = 50
"""Samples looked at for each one asked for, before the source counts as used up."""


class CellResources:
    """The resources of one cell. Satisfies ``methods.base.Resources``.

    Args:
        seed: The cell's seed.
        source: The old data.
        store: Where ``cached`` keeps its tensors.
        context: What else their value depends on: base model, code, precision.
        stage: Number of the injection stage, from 1, and how many there are.
        carried: What the method left for this stage at the end of the one before.
        inputs: Questions of the benchmarks that the method said it reads.
    """

    def __init__(
        self,
        seed: int,
        source: PretrainingData,
        store: Store,
        context: Mapping[str, Any],
        stage: tuple[int, int] = (1, 1),
        stage_state: Mapping[str, torch.Tensor] | None = None,
        inputs: Mapping[str, Sequence[Question]] | None = None,
    ) -> None:
        self.seed = seed
        self.stage, self.stages = stage
        self.stage_state = dict(stage_state or {})
        self._source, self._store, self._context = source, store, context
        self._inputs = inputs or {}
        self._given: dict[str, str] = {}
        """Content digest of each sample handed out, and its purpose."""

    def pretraining_samples(self, count: int, purpose: str) -> Sequence[Conversation]:
        """``count`` different samples; what another purpose of this cell was given does not come again.

        Raises:
            UserError: The preset has no old data, or too little.
        """
        samples: list[Conversation] = []
        seen: set[str] = set()
        if count < 1:
            return samples
        for looked_at, sample in enumerate(self._source.stream(self.seed, purpose), 1):
            content = sample_digest(sample)
            if content not in seen and self._given.get(content, purpose) == purpose:
                seen.add(content)
                samples.append(sample)
            if len(samples) == count or looked_at >= PATIENCE * count:
                break
        if len(samples) < count:
            raise UserError(
                f"{count} different old samples are needed for {purpose}, but only {len(samples)} were found",
                location="data.old",
                hint="ask for fewer, or give more old data",
            )
        self._given |= dict.fromkeys(seen, purpose)
        return samples

    def benchmark_prompts(self, benchmark: str, count: int) -> Sequence[Conversation]:
        """First turns of at most ``count`` questions, drawn by the seed, in the benchmark's order; no references.

        Raises:
            UserError: The method did not say that it reads this benchmark, so its row would not be marked.
        """
        if benchmark not in self._inputs:
            raise UserError(
                f"the method reads {benchmark} and does not say so",
                location="evaluation_inputs",
                hint="have the method's evaluation_inputs name it; its row is then marked transductive",
            )
        questions = self._inputs[benchmark]
        draw = random.Random(f"{benchmark} {self.seed}")
        chosen = sorted(draw.sample(range(len(questions)), min(count, len(questions))))
        return [_prompt(questions[index]) for index in chosen]

    def cached(self, key: Mapping[str, Any], compute: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """The tensors stored under ``key`` and this cell's context, computed at the first call."""
        recipe = {"key": dict(key), **self._context}
        stored = self._store.read_tensors(PREPARED, recipe)
        if stored is None:
            from harness.training.hook_checks import validate_tensors

            self._store.write_tensors(PREPARED, recipe, validate_tensors(compute(), "prepare"))
            # Read back, so that a first run and a later one work with the same bits.
            stored = self._store.read_tensors(PREPARED, recipe)
            if stored is None:
                raise UserError(
                    "what was just written cannot be read", location=str(self._store.root), hint="check the disk"
                )
        return stored


def _prompt(question: Question) -> Conversation:
    first = question.turns[0]
    return Conversation(question.id, (Turn("user", first),), question.pictures[: first.count(IMAGE)], "evaluation")
