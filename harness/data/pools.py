"""The samples beside the new knowledge that a method may ask for, in two pools.

The *calibration pool* is what a method measures a base's inputs on: prompts, without their answers. The *replay pool*
is what it learns from again, with answers: rehearsal, pseudo-tasks, and the gradients of a Fisher information, which
stand for the task that the base was trained on. In the KORE paper the first are four sets of LLaVA-OneVision, which
LLaVA-1.5 was not trained on, and the second is a sample of the model's own training data.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Protocol

from benchmarks.data.conversations import load_conversations
from benchmarks.data.rows import find_rows, is_data_path
from benchmarks.errors import UserError
from benchmarks.records import Conversation
from harness.config.overrides import unknown_name
from harness.config.schema import SOURCES, Pool
from harness.storage.digests import digest, file_digest
from harness.storage.source_code import code_digest

POOL_FILES = ("pool.json", "train.json", "train.jsonl")
"""Names of files of samples in a folder."""
TUNING = "tuning"
"""The purpose of the samples by which ``tune`` judges what a method keeps: no method may learn from them."""
HELD_OUT = 128
"""Samples of a file that are held out for tuning, if it has eight times as many; otherwise one in eight."""
UNREAD = "not read by these methods"
DATASETS = {
    "LLaVA-OneVision": "LLaVA-OneVision-Data",
    "llava_v1_5_mix665k": "llava_v1_5_mix665k, the instruction data of LLaVA-1.5",
}
"""Descriptions of the data sets that ``fetch`` samples, by the first part of a sample's source."""


class SamplePool(Protocol):
    """A stream of samples."""

    @property
    def description(self) -> str:
        """What the samples are, in a few words, for reports."""

    def fingerprint(self) -> str:
        """Digest of everything that determines the samples."""

    def stream(self, seed: int, purpose: str) -> Iterator[Conversation]:
        """Yield samples in an order that both arguments determine; different purposes get different samples."""

    def source(self, sample: Conversation) -> str:
        """The data set that a sample is from, as ``DATASET:PART`` or ``PART``; empty if it does not say."""


class MiniPool:
    """What the miniature was trained on last, generated on demand."""

    description = "the lessons that this base was pre-trained on last"

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

    def source(self, sample: Conversation) -> str:
        """Empty: all are from one source."""
        return ""


class FilePool:
    """A file of conversations in any format; a sample's source is its id up to the first slash.

    Some samples, chosen by their content, are held out for tuning: no purpose gets them but that and calibration, which
    reads no answers.

    Args:
        file: The file, with its pictures beside it, or a folder of Parquet or Arrow files.
        balanced: Whether any number of samples is drawn evenly from the sources, instead of uniformly from all rows.
    """

    def __init__(self, file: Path, *, balanced: bool) -> None:
        rows = find_rows(file, POOL_FILES)
        self._samples = tuple(sample for sample, _ in load_conversations(rows))
        self._balanced = balanced
        digests = sorted({sample.sha256 for sample in self._samples})
        self._held_out = frozenset(digests[: min(HELD_OUT, len(digests) // 8)])
        datasets = dict.fromkeys(self.source(sample).partition(":")[0] for sample in self._samples)
        known = "; ".join(DATASETS[name] for name in datasets if name in DATASETS)
        self.description = known or f"the samples of {file.name}"

    def fingerprint(self) -> str:
        """Digest of the samples' ids and content, in order, and of what is held out."""
        return digest([sorted(self._held_out), [[sample.id, sample.sha256] for sample in self._samples]])

    def stream(self, seed: int, purpose: str) -> Iterator[Conversation]:
        """Yield the purpose's samples once, shuffled, from each source in turn if balanced; other purposes, others."""
        order = list(self._samples)
        random.Random(f"{purpose} {seed}").shuffle(order)
        if purpose != Pool.CALIBRATION:
            order = [sample for sample in order if (sample.sha256 in self._held_out) == (purpose == TUNING)]
        return iter(self._in_turn(order) if self._balanced else order)

    def source(self, sample: Conversation) -> str:
        """The id up to its first slash; empty without one."""
        return sample.id.partition("/")[0] if "/" in sample.id else ""

    def _in_turn(self, samples: list[Conversation]) -> list[Conversation]:
        """One sample of each source, in the file's order of sources, then the next of each."""
        strata: dict[str, list[Conversation]] = {self.source(sample): [] for sample in self._samples}
        for sample in samples:
            strata[self.source(sample)].append(sample)
        return [sample for sample in chain.from_iterable(zip_longest(*strata.values())) if sample is not None]


class EmptyPool:
    """For a preset that names no samples.

    Args:
        name: The pool's name, for the error.
        description: For a pool that the preset names and no method reads.
    """

    def __init__(self, name: Pool, description: str = "no samples") -> None:
        self._name = name
        self.description = description

    def fingerprint(self) -> str:
        """A constant."""
        return digest("none")

    def stream(self, seed: int, purpose: str) -> Iterator[Conversation]:
        """Always raise a ``UserError``."""
        raise UserError(
            f"samples of the {self._name} pool are needed for {purpose}, but the preset has none",
            location=f"data.{self._name}",
            hint=f"set data.{self._name}, or leave out the method",
        )

    def source(self, sample: Conversation) -> str:
        """Empty."""
        return ""


class UndeclaredPool(EmptyPool):
    """For a pool that the method does not declare to draw from."""

    def stream(self, seed: int, purpose: str) -> Iterator[Conversation]:
        """Always raise a ``UserError``."""
        raise UserError(
            f"the method draws from the {self._name} pool, for {purpose}, and does not say so",
            location="pools",
            hint=f"have the method's pools name {self._name}; its results then depend on that pool",
        )


@dataclass(frozen=True)
class Pools:
    """The pools of a run."""

    calibration: SamplePool
    replay: SamplePool

    def name_for(self, purpose: str) -> Pool:
        """The pool that serves a purpose."""
        return Pool.serving(purpose)

    def only(self, names: Collection[Pool]) -> Pools:
        """These pools alone; drawing from another one is an error that says so."""
        return Pools(*(self[name] if name in names else UndeclaredPool(name) for name in Pool))

    def __getitem__(self, name: Pool) -> SamplePool:
        return self.calibration if name is Pool.CALIBRATION else self.replay

    def fingerprints(self) -> dict[str, str]:
        """Digest of everything that determines the samples of each pool, by its name."""
        return {name.value: self[name].fingerprint() for name in Pool}


def open_pools(calibration: str, replay: str, read: Collection[Pool] = tuple(Pool)) -> Pools:
    """Open what ``data.calibration`` and ``data.replay`` name.

    Args:
        calibration: A JSON file, or one of ``SOURCES``.
        replay: Likewise.
        read: The pools that some method draws from; a file of another one need not be there.

    Raises:
        UserError: There is no such source, or a file cannot be read.
    """
    names = {Pool.CALIBRATION: calibration, Pool.REPLAY: replay}
    for pool, name in names.items():
        _check_source(name, pool)
    return Pools(*(open_pool(names[pool], pool) if pool in read else EmptyPool(pool, UNREAD) for pool in Pool))


def open_pool(name: str, pool: Pool) -> SamplePool:
    """Open what ``data.<pool>`` names. Calibration is drawn evenly from a file's sources, replay from all its rows.

    Raises:
        UserError: There is no such source, or the file cannot be read.
    """
    _check_source(name, pool)
    if name not in SOURCES:
        return FilePool(Path(name), balanced=pool is Pool.CALIBRATION)
    return MiniPool() if name == "mini" else EmptyPool(pool)


def _check_source(name: str, pool: Pool) -> None:
    if name not in SOURCES and not is_data_path(name):
        raise unknown_name("source of samples", name, SOURCES, where=f"data.{pool}")
