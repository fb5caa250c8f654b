"""What a base model was pre-trained on, for the methods that rehearse it or measure against it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from benchmarks.data.conversations import load_conversations
from benchmarks.errors import UserError
from benchmarks.records import Conversation
from harness.config.overrides import unknown
from harness.storage.provenance import code_digest
from harness.storage.store import digest, file_digest


class PretrainingData(Protocol):
    """A stream of samples like those of the pre-training."""

    def fingerprint(self) -> str:
        """Sha256 over all that decides which samples come out."""

    def stream(self, seed: int, purpose: str) -> Iterator[Conversation]:
        """Samples in an order fixed by both arguments; different purposes walk through different parts."""


class MiniPretrainingData:
    """What the miniature was taught last, made on demand."""

    def fingerprint(self) -> str:
        """The facts, the drawings and the code that makes lessons from them."""
        from benchmarks.mini import world
        from harness.miniature import finetuning_data as drill

        files = sorted(path for path in world.DATA.glob("*") if path.suffix in (".json", ".parquet"))
        return digest(
            {"code": code_digest(Path(drill.__file__)), "files": [[path.name, file_digest(path)] for path in files]}
        )

    def stream(self, seed: int, purpose: str) -> Iterator[Conversation]:
        """Lessons from a part of the endless list that belongs to the purpose."""
        from benchmarks.mini.world import load_world
        from harness.miniature.finetuning_data import FinetuningMixture

        drill = FinetuningMixture(load_world(), seed)
        index = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:3]) << 24
        while True:
            yield drill.sample(index, 1.0).conversation(f"old/{seed}/{index}")
            index += 1


class ConversationFile:
    """Conversations in LLaVA's format in a file of the user's, such as a sample of what the base was trained on."""

    def __init__(self, file: Path) -> None:
        self._samples = tuple(sample for sample, _ in load_conversations(file))

    def fingerprint(self) -> str:
        """What is said and shown, in order."""
        return digest(
            [
                [
                    sample.id,
                    [[turn.role, turn.text] for turn in sample.turns],
                    [each.sha256 for each in sample.pictures],
                ]
                for sample in self._samples
            ]
        )

    def stream(self, seed: int, purpose: str) -> Iterator[Conversation]:
        """All of them once, shuffled; another purpose has another order."""
        order = list(range(len(self._samples)))
        random.Random(f"{purpose} {seed}").shuffle(order)
        return (self._samples[index] for index in order)


class NoPretrainingData:
    """For a base whose pre-training data is not at hand."""

    def fingerprint(self) -> str:
        """Constant: there is nothing."""
        return digest("none")

    def stream(self, seed: int, purpose: str) -> Iterator[Conversation]:
        """Always an error."""
        raise UserError(
            f"old data is needed for {purpose}, but the preset has none",
            location="data.old",
            hint="name the old data in the preset, or leave out the method",
        )


SOURCES: dict[str, type[PretrainingData]] = {"mini": MiniPretrainingData, "none": NoPretrainingData}


def open_pretraining_data(name: str) -> PretrainingData:
    """The source that a preset names.

    Raises:
        UserError: There is no such source.
    """
    if name.endswith(".json"):
        return ConversationFile(Path(name))
    if name not in SOURCES:
        raise unknown("source of old data", name, SOURCES, where="data.old")
    return SOURCES[name]()
