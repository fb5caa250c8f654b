"""One cell = model x method x data x seed: its identity, and the cache keys of what it produces.

A cache key lists everything that can change a result and nothing that cannot. It contains no path, and a name only
together with the code behind it (invariant I2): training again into the same folder can never serve old answers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.records import Answer, Question
from benchmarks.thinking import any_thinking
from harness.config import sweep
from harness.config.extras import libraries_of
from harness.config.method_settings import ResolvedMethodSettings
from harness.config.overrides import unknown_name
from harness.config.scaled_rows import split_scaled
from harness.config.schema import NO_EFFECT, Pool
from harness.experiment.method_files import core_digest, source_files
from harness.storage.digests import answers_digest, questions_digest
from harness.storage.provenance import versions
from harness.storage.source_code import code_digest, user_code
from harness.storage.store import CacheKey
from harness.training.hardware import WeightPrecision
from reports.record import SCALED, VANILLA

if TYPE_CHECKING:
    from methods.base import InjectionMethod

# The kinds of entry that a cell leaves in the store.
ADAPTERS = "adapters"
TRAINING = "training"
ANSWERS = "answers"
SCORES = "scores"

TRAINING_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "pillow")
ANSWERING_LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "pillow")

Status = Literal["ok", "diverged", "oom", "failed", "interrupted"]


@dataclass(frozen=True)
class CacheInputs:
    """What the cache keys of all cells of a run have in common; data and model by their digests."""

    base: str
    """Digest of the base model's folder."""
    knowledge: str
    pools: Mapping[str, str]
    """Digest of each pool, by its name."""
    training: Mapping[str, Any]
    """Settings of the training loop that affect what is learned."""
    batch_size: int
    """Questions answered at once."""
    device: str
    precision: WeightPrecision
    processes: int = 1
    """Processes that train together: sums in another order round differently."""
    sharding: str = "none"
    evaluation_inputs: Mapping[str, str] = field(default_factory=dict)
    """Digest of the questions of each benchmark that some method reads."""


@dataclass(frozen=True)
class Cell:
    """One model x method x data x seed. The untouched base, ``vanilla``, has neither settings nor training.

    Args:
        method: Name of the method.
        variant: Name of the variant, or empty.
        seed: Seed of data order, initial values and other draws.
        settings: The method's settings.
        row: The requested name, if it differs from that of method and variant.
        crossed: Values of the row's sweep axes, by setting.
        swept: The setting along which the cell is one point of a curve.
        also: Labels of other requested rows that are the same cell.
        scale: Factor of the update, for a row that reuses the adapter of another; None for a row of its own.
    """

    method: str
    variant: str
    seed: int
    settings: ResolvedMethodSettings | None
    row: str = ""
    crossed: Mapping[str, Any] = field(default_factory=dict)
    swept: str = ""
    also: tuple[str, ...] = ()
    scale: float | None = None

    @property
    def name(self) -> str:
        """Method and variant, as in ``--methods``."""
        return f"{self.method}:{self.variant}" if self.variant else self.method

    @property
    def label(self) -> str:
        """The label of its row, which all seeds of the row share and no other row has."""
        return sweep.row_label(self.row or self.name, self.crossed)

    @property
    def curve(self) -> str:
        """The label of the curve of which it is one point; empty if nothing is swept."""
        if not self.swept:
            return ""
        if self.swept == SCALED:
            return self.source
        others = {key: value for key, value in self.crossed.items() if key != self.swept}
        return sweep.row_label(self.row or self.name, others)

    @property
    def source(self) -> str:
        """The label of the row whose adapter it uses: its own, unless it is a scaled row."""
        return sweep.row_label(split_scaled(self.row or self.name)[0], self.crossed)

    @property
    def coordinates(self) -> Mapping[str, Any]:
        """The values of its sweep axes, the factor of its update among them if that is one."""
        factor = 1.0 if self.scale is None else self.scale
        return {**self.crossed, SCALED: factor} if self.swept == SCALED else self.crossed

    @property
    def title(self) -> str:
        """The label with the seed, for messages."""
        return self.label if self.settings is None else f"{self.label} seed {self.seed}"

    @property
    def training(self) -> Mapping[str, Any]:
        """Settings of the training loop that differ from the run's."""
        return self.settings.training if self.settings else {}

    @property
    def plain_settings(self) -> dict[str, Any]:
        """The method's settings as plain values, for keys; empty for the untouched base."""
        return dict(self.settings.values.cache_key()) if self.settings else {}

    def make(self) -> InjectionMethod:
        """A new instance of the cell's method."""
        from methods.registry import get_class

        if self.settings is None:
            raise ValueError("the untouched base has no method")
        return get_class(self.method)(self.settings.values)

    @property
    def answers_file(self) -> Path | None:
        """The file with its answers, if they come from elsewhere: then no model is trained or asked."""
        from methods.external import AnswersSettings

        values = self.settings.values if self.settings else None
        return Path(values.file) if isinstance(values, AnswersSettings) else None

    @property
    def has_adapter(self) -> bool:
        """Whether the base answers with something trained or loaded: neither untouched, nor are answers given."""
        return self.settings is not None and self.answers_file is None

    @property
    def pools(self) -> tuple[Pool, ...]:
        """The pools that its method draws from; none for the untouched base.

        Raises:
            UserError: The method names a pool that does not exist.
        """
        named = self.make().pools if self.settings else ()
        for name in named:
            if name not in set(Pool):
                raise unknown_name("pool", name, [pool.value for pool in Pool], where=f"pools of {self.method}")
        return tuple(pool for pool in Pool if pool in named)

    @property
    def user_code(self) -> dict[str, str]:
        """The digests of the user's files in the method's code, and versions of packages that they import."""
        return user_code(source_files(self.make())) if self.settings else {}

    def pool_digests(self, cache_inputs: CacheInputs) -> dict[str, str]:
        """The digests of these pools, by name."""
        return {pool.value: cache_inputs.pools[pool] for pool in self.pools}

    def identity(self) -> CacheKey:
        """The method, its settings and its code, and the factor of its update."""
        if self.settings is None:
            return {"method": VANILLA}
        scaled = {} if self.scale is None else {"scale": self.scale}
        return {
            **scaled,
            "method": self.method,
            "settings": self.plain_settings,
            "code": code_digest(*source_files(self.make())),
        }

    def training_key(self, cache_inputs: CacheInputs) -> CacheKey:
        """The cache key of the adapter, which a scaled row shares with its source."""
        read, training = self.make().evaluation_inputs, {**cache_inputs.training, **self._effective_training()}
        return {
            **dataclasses.replace(self, scale=None).identity(),
            **({"inputs": {name: cache_inputs.evaluation_inputs[name] for name in read}} if read else {}),
            **({"processes": [cache_inputs.processes, cache_inputs.sharding]} if cache_inputs.processes > 1 else {}),
            "base": cache_inputs.base,
            "knowledge": cache_inputs.knowledge,
            "pools": self.pool_digests(cache_inputs),
            "training": training,
            "seed": self.seed,
            "device": cache_inputs.device,
            "precision": cache_inputs.precision,
            "core": core_digest("experiment/train.py"),
            "versions": versions(
                *TRAINING_LIBRARIES,
                *(("deepspeed",) if cache_inputs.sharding.startswith("zero") else ()),
                *libraries_of(cache_inputs.precision, training),
            ),
        }

    def _effective_training(self) -> dict[str, Any]:
        return {name: value for name, value in self.training.items() if name not in NO_EFFECT}

    def answers_key(
        self,
        cache_inputs: CacheInputs,
        adapter: str,
        questions: Sequence[Question],
        pictures: Mapping[str, Any] | None = None,
        asked: Mapping[str, Any] | None = None,
        engine: Mapping[str, Any] | None = None,
    ) -> CacheKey:
        """The cache key of the answers to one benchmark.

        It contains the batch size: rows of a batch are padded to the longest, which changes how sums round, and with it
        the answer wherever two tokens are (almost) equally likely.

        Args:
            cache_inputs: What all keys have in common.
            adapter: SHA-256 of the adapter, empty for the untouched base.
            questions: The benchmark's questions, in the order in which they are asked.
            pictures: How their pictures are prepared; None as in training, which the base's digest covers.
            asked: What else decides how the method asks them; None if it asks them as they are.
            engine: The engine that answers; None for the built-in one.
        """
        optional = {"pictures": pictures, "asked": asked, "engine": engine}
        return {
            **self.identity(),
            **{name: dict(value) for name, value in optional.items() if value is not None},
            "base": cache_inputs.base,
            "adapter": adapter,
            "questions": questions_digest(questions),
            "decoding": {"strategy": "greedy", "batch_size": cache_inputs.batch_size},
            "device": cache_inputs.device,
            "precision": cache_inputs.precision,
            "core": core_digest("models/batched_generation.py"),
            "versions": versions(*ANSWERING_LIBRARIES, *libraries_of(cache_inputs.precision, {})),
        }


def given_key(cell: Cell, benchmark: str, questions: Sequence[Question]) -> CacheKey:
    """The cache key of answers from a file: no model of the run has a part in them.

    Args:
        cell: With an ``answers_file``.
        benchmark: Its name, because a file answers each benchmark on its own.
        questions: The benchmark's questions, in the order in which they are asked.
    """
    return {**cell.identity(), "benchmark": benchmark, "questions": questions_digest(questions)}


def scores_key(answers: Sequence[Answer], benchmark: str, questions: Sequence[Question]) -> CacheKey:
    """The cache key of a score.

    Args:
        answers: The answers.
        benchmark: The benchmark's fingerprint: its scorer and its data.
        questions: The questions that were asked; a limited run asks fewer.
    """
    key = {"answers": answers_digest(answers), "benchmark": benchmark, "questions": questions_digest(questions)}
    return key | ({"thinking": "cut"} if any_thinking(answers) else {})  # earlier versions scored the whole text
