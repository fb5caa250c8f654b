"""What a base model was pre-trained on, for methods that rehearse it or compute statistics on it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from benchmarks.data.conversations import load_conversations
from benchmarks.errors import UserError
from benchmarks.records import Conversation
from harness.config.overrides import unknown_name
from harness.storage.digests import digest, file_digest
from harness.storage.provenance import code_digest


class PretrainingData(Protocol):
    """A stream of samples like those of the pre-training."""

    def fingerprint(self) -> str:
        """Digest of everything that determines the samples."""

    def stream(self, seed: int, purpose: str) -> Iterator[Conversation]:
        """Yield samples in an order that both arguments determine; different purposes get different samples."""


class MiniPretrainingData:
    """What the miniature was trained on last, generated on demand."""

    def fingerprint(self) -> str:
        """Digest of the facts, the drawings and the code that generates samples from them."""
        from benchmarks.mini import world
        from harness.miniature import finetuning_data

        files = sorted(path for path in world.DATA.glob("*") if path.suffix in (".json", ".parquet"))
        content = [[path.name, file_digest(path)] for path in files]
        return digest({"code": code_digest(Path(finetuning_data.__file__)), "files": content})

    def stream(self, seed: int, purpose: str) -> Iterator[Conversation]:
        """Yield samples from the part of an endless list that belongs to the purpose."""
        from benchmarks.mini.world import load_world
        from harness.miniature.finetuning_data import FinetuningMixture

        mixture = FinetuningMixture(load_world(), seed)
        index = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:3]) << 24
        while True:
            yield mixture.sample(index, 1.0).conversation(f"old/{seed}/{index}")
            index += 1


class ConversationFile:
    """A file of conversations in LLaVA's format, such as a sample of the pre-training data."""

    def __init__(self, file: Path) -> None:
        self._samples = tuple(sample for sample, _ in load_conversations(file))

    def fingerprint(self) -> str:
        """Digest of the samples' ids and content, in order."""
        return digest([[sample.id, sample.sha256] for sample in self._samples])

    def stream(self, seed: int, purpose: str) -> Iterator[Conversation]:
        """Yield every sample once, shuffled; another purpose has another order."""
        order = list(range(len(self._samples)))
        random.Random(f"{purpose} {seed}").shuffle(order)
        return (self._samples[index] for index in order)


class NoPretrainingData:
    """For a base whose pre-training data is not available."""

    def fingerprint(self) -> str:
        """A constant."""
        return digest("none")

    def stream(self, seed: int, purpose: str) -> Iterator[Conversation]:
        """Always raise a ``UserError``."""
        raise UserError(
            f"old data is needed for {purpose}, but the preset has none",
            location="data.old",
            hint="set data.old, or leave out the method",
        )


SOURCES: dict[str, type[PretrainingData]] = {"mini": MiniPretrainingData, "none": NoPretrainingData}


def open_pretraining_data(name: str) -> PretrainingData:
    """Open the source that ``data.old`` names.

    Raises:
        UserError: There is no such source.
    """
    if name.endswith(".json"):
        return ConversationFile(Path(name))
    if name not in SOURCES:
        raise unknown_name("source of old data", name, SOURCES, where="data.old")
    return SOURCES[name]()
