"""What a method meets in the tiny world: the model, old data, a cache, a place for checkpoints."""

from __future__ import annotations

import copy
import json
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from benchmarks.records import Conversation
from harness.conformance.tiny_model import conversation, write_tiny_model
from harness.storage.store import digest

if TYPE_CHECKING:
    from harness.models.llava import LlavaModel

CPU = torch.device("cpu")
Dtype = Literal["float32", "bfloat16"]


def fresh_model(dtype: Dtype = "float32") -> LlavaModel:
    """A tiny LLaVA that nobody else holds; all are equal. Texts and pictures, which never change, are shared."""
    base = _loaded(dtype)
    model = copy.copy(base)
    model.module = copy.deepcopy(base.module)
    return model


@cache
def _loaded(dtype: Dtype) -> LlavaModel:
    from harness.models.llava import LlavaModel
    from harness.models.loading import quiet_loading

    with tempfile.TemporaryDirectory() as folder, quiet_loading():
        model = LlavaModel.load(write_tiny_model(Path(folder), tower_layers=1), CPU, getattr(torch, dtype))
    with torch.no_grad():  # at its first pass transformers hangs hooks of its own on the model
        model.supervised(model.training_batch([conversation(0)]))
    return model


class FakeResources:
    """Satisfies ``methods.base.Resources``; notes which benchmarks were asked for their questions.

    Args:
        seed: The cell's.
        cached: Statistics that were computed already, by key; a new dict where nothing was.
        stage: Number of the injection stage.
        carried: What ``export_stage_state`` gave at the stage before.
    """

    def __init__(
        self,
        seed: int,
        cached: dict[str, dict[str, torch.Tensor]],
        stage: int = 1,
        stage_state: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.seed, self.stage, self.stages = seed, stage, 2
        self.stage_state = dict(stage_state or {})
        self._cached = cached
        self.read: list[str] = []
        """Benchmarks whose questions were asked for."""

    def pretraining_samples(self, count: int, purpose: str) -> Sequence[Conversation]:
        """Random conversations about one picture each; others for another purpose or seed."""
        first = 1_000 + zlib.crc32(f"{purpose} {self.seed}".encode()) % 1_000_000
        return [conversation(first + index, words=3 + index % 5) for index in range(count)]

    def benchmark_prompts(self, benchmark: str, count: int) -> Sequence[Conversation]:
        """Questions that nothing else in the tiny world resembles."""
        self.read.append(benchmark)
        return questions()[:count]

    def cached(self, key: Mapping[str, Any], compute: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """As the store does it: the key must be plain JSON, and whoever asks gets tensors of his own."""
        name = digest(dict(key))
        if name not in self._cached:
            self._cached[name] = compute()
        return {name: tensor.clone() for name, tensor in self._cached[name].items()}


@cache
def questions() -> tuple[Conversation, ...]:
    """What stands for the questions of a benchmark."""
    return tuple(conversation(5_000_000 + index, words=2) for index in range(32))


class InMemoryCheckpoint:
    """A checkpoint in memory, through JSON as on the disk. Satisfies ``harness.training.checkpoint.Checkpoint``.

    Args:
        last: After so many saves the training is killed.
    """

    def __init__(self, last: int | None = None) -> None:
        self._last, self._saves = last, 0
        self._kept: tuple[dict[str, torch.Tensor], str] | None = None

    @classmethod
    def of(cls, other: InMemoryCheckpoint) -> InMemoryCheckpoint:
        """What another life left, to go on from."""
        made = cls()
        made._kept = other._kept
        return made

    def save(self, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Replace what was saved before.

        Raises:
            Killed: It was the last save.
        """
        self._kept = {name: tensor.clone() for name, tensor in tensors.items()}, json.dumps(state)
        self._saves += 1
        if self._saves == self._last:
            raise SimulatedKill

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """What was saved last."""
        return None if self._kept is None else (self._kept[0], json.loads(self._kept[1]))

    def discard(self) -> None:
        """Forget it."""
        self._kept = None


class SimulatedKill(Exception):
    """The training stops here."""
