"""Stand-ins for what a method is given: the model, resources, and a place for checkpoints."""

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

from benchmarks.records import Conversation, KnowledgeItem, Picture, Question
from harness.config.schema import Pool
from harness.conformance.errors import SimulatedKill
from harness.conformance.tiny_model import conversation, knowledge, write_tiny_model
from harness.storage.digests import digest

if TYPE_CHECKING:
    from harness.models.base import LanguageVisionModel

CPU = torch.device("cpu")
Dtype = Literal["float32", "bfloat16"]


def fresh_model(dtype: Dtype = "float32", folder: Path | None = None) -> LanguageVisionModel:
    """A new model, equal to all others. Only what is never modified (tokenizer, cached pictures) is shared.

    Args:
        dtype: Type of the frozen weights.
        folder: Of a small model of any family; None for a tiny LLaVA.

    Raises:
        UserError: The folder cannot be loaded.
    """
    base = _loaded(dtype, folder)
    model = copy.copy(base)
    model.module = copy.deepcopy(base.module)
    return model


@cache
def _loaded(dtype: Dtype, folder: Path | None) -> LanguageVisionModel:
    from harness.models.loading import quiet_loading
    from harness.models.registry import load_model

    with tempfile.TemporaryDirectory() as tiny, quiet_loading():
        model = load_model(folder or write_tiny_model(Path(tiny), tower_layers=1), CPU, getattr(torch, dtype))
    model.folder = folder  # the tiny one's is deleted
    with torch.no_grad():  # in the first forward pass, transformers registers hooks on the model
        model.supervised(model.training_batch([conversation(0)]))
    return model


class FakeResources:
    """Satisfies ``methods.interfaces.Resources``.

    Args:
        seed: The cell's seed.
        cache: Statistics that were computed before, by key.
        stage: Number of the injection stage.
        stage_state: What ``export_stage_state`` returned at the end of the previous stage.

    Attributes:
        benchmarks_read: Benchmarks whose questions were asked for.
        pools_read: Pools that samples were drawn from.
    """

    def __init__(
        self,
        seed: int,
        cache: dict[str, dict[str, torch.Tensor]],
        stage: int = 1,
        stage_state: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        self.seed, self.stage, self.stages = seed, stage, 2
        self.all_items: Sequence[KnowledgeItem] = ()
        self.knowledge: Sequence[KnowledgeItem] = knowledge(4)
        self.stage_state = dict(stage_state or {})
        self._cache = cache
        self.benchmarks_read: list[str] = []
        self.pools_read: set[str] = set()

    def pool_samples(self, count: int, purpose: str) -> Sequence[Conversation]:
        """Random conversations about one picture each; they depend on the purpose and the seed."""
        self.pools_read.add(Pool.serving(purpose).value)
        first = 1_000 + zlib.crc32(f"{purpose} {self.seed}".encode()) % 1_000_000
        return [conversation(first + index, words=3 + index % 5) for index in range(count)]

    def benchmark_prompts(self, benchmark: str, count: int, *, as_in_table: bool = False) -> Sequence[Conversation]:
        """Questions that differ from all other fake data."""
        self.benchmarks_read.append(benchmark)
        return evaluation_questions()[:count]

    def cached(self, key: Mapping[str, Any], compute: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Like the store: the key must be plain JSON, and each caller gets copies of the tensors."""
        entry = digest(dict(key))
        if entry not in self._cache:
            self._cache[entry] = compute()
        return {name: tensor.clone() for name, tensor in self._cache[entry].items()}


class FakeAskingResources:
    """Satisfies ``methods.interfaces.AskingResources``. Questions are about the item of the same id.

    Args:
        seed: The cell's seed.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.knowledge: Sequence[KnowledgeItem] = knowledge(4)

    def item_of(self, question: Question) -> KnowledgeItem | None:
        """The item of the same id."""
        return next((item for item in self.knowledge if item.id == question.id), None)

    def picture_features(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """A random vector for each picture, the same for equal pictures."""
        draws = [torch.Generator().manual_seed(int(picture.sha256[:8], 16)) for picture in pictures]
        return torch.stack([torch.randn(8, generator=draw) for draw in draws])


@cache
def evaluation_questions() -> tuple[Conversation, ...]:
    """Stand-ins for the questions of a benchmark."""
    return tuple(conversation(5_000_000 + index, words=2) for index in range(32))


class InMemoryCheckpoint:
    """Keeps a checkpoint in memory, with its state as JSON. Satisfies ``harness.training.checkpoint.Checkpoint``.

    Args:
        kill_after: Number of saves after which the training is killed; None for never.
        saved: The content to start with: what another checkpoint saved last.
    """

    def __init__(self, kill_after: int | None = None, saved: tuple[dict[str, torch.Tensor], str] | None = None) -> None:
        self._kill_after, self._saves = kill_after, 0
        self.saved = saved

    def save(self, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Replace what was saved before.

        Raises:
            SimulatedKill: It was the last save.
        """
        self.saved = {name: tensor.clone() for name, tensor in tensors.items()}, json.dumps(state)
        self._saves += 1
        if self._saves == self._kill_after:
            raise SimulatedKill

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """What was saved last."""
        return None if self.saved is None else (self.saved[0], json.loads(self.saved[1]))

    def discard(self) -> None:
        """Delete what was saved."""
        self.saved = None
