"""One cell = model x method x data x seed: its identity, and what each of its products is made of.

A recipe lists everything that can change a product and nothing that cannot. No name or path stands in one, save where
the code behind the name stands beside it (invariant I2): retraining into the same folder can never serve old answers.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.records import Question
from harness.config import sweep as crossing
from harness.config.method_settings import ResolvedMethodSettings, method_settings
from harness.config.settings import ResolvedSettings
from harness.storage.digests import questions_digest
from harness.storage.provenance import code_digest, versions
from harness.storage.store import CacheKey, digest
from reports.record import VANILLA

if TYPE_CHECKING:
    from methods.base import InjectionMethod

ADAPTERS, TRAINING, ANSWERS, SCORES = "adapters", "training", "answers", "scores"
"""The kinds of entry that a cell leaves in the store."""
PACKAGE_ROOT = Path(__file__).parent.parent
_TRAINS = ("torch", "transformers", "peft", "accelerate", "tokenizers", "pillow")
_ANSWERS = ("torch", "transformers", "peft", "tokenizers", "pillow")

Precision = Literal["float32", "bfloat16"]
Status = Literal["ok", "diverged", "oom", "failed", "interrupted"]


@dataclass(frozen=True)
class CacheInputs:
    """What all cells of a run stand on, by content."""

    base: str
    """Digest of the base model's folder."""
    knowledge: str
    old_data: str
    training: Mapping[str, Any]
    """Resolved settings of the training core that can change what is learnt."""
    batch_size: int
    device: str
    precision: Precision
    processes: int = 1
    """How many train together: sums of another order round differently."""
    sharding: str = "none"
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Questions of the benchmarks that some method reads, by the name by which it asks for them."""


@dataclass(frozen=True)
class Cell:
    """One model x method x data x seed. The untouched base, ``vanilla``, has neither settings nor training.

    Args:
        method: Its name.
        variant: The variant that its settings are, or nothing.
        seed: Of order, initial values and draws.
        settings: Resolved.
        row: The name that was asked for, if it is not that of method and variant.
        crossed: What the row was crossed over, by setting.
        swept: The setting along which it is one point of a curve.
        also: Other rows that were asked for and are this very cell.
        training: Settings of the training core that are not the run's.
    """

    method: str
    variant: str
    seed: int
    settings: ResolvedMethodSettings | None
    row: str = ""
    crossed: Mapping[str, Any] = field(default_factory=dict)
    swept: str = ""
    also: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Method and variant, as the user writes them."""
        return f"{self.method}:{self.variant}" if self.variant else self.method

    @property
    def label(self) -> str:
        """What its row is called; all seeds of a row share it, and no other row has it."""
        return crossing.label(self.row or self.name, self.crossed)

    @property
    def curve(self) -> str:
        """What the curve is called of which it is one point; empty where nothing was swept."""
        if not self.swept:
            return ""
        return crossing.label(
            self.row or self.name, {key: value for key, value in self.crossed.items() if key != self.swept}
        )

    @property
    def title(self) -> str:
        """The label with its seed, for progress lines."""
        return self.label if self.settings is None else f"{self.label} seed {self.seed}"

    def make(self) -> InjectionMethod:
        """A fresh instance of the cell's method."""
        from methods.registry import registered

        if self.settings is None:
            raise ValueError("the untouched base has no method")
        return registered()[self.method](self.settings.values)

    def identity(self) -> CacheKey:
        """The method by its code, and its settings."""
        if self.settings is None:
            return {"method": VANILLA}
        return {"method": self.method, "settings": _values(self), "code": code_digest(*_sources(self.make()))}

    def training_recipe(self, cache_inputs: CacheInputs) -> CacheKey:
        """What makes the adapter."""
        read = self.make().evaluation_inputs
        return {
            **self.identity(),
            **({"inputs": {name: cache_inputs.inputs[name] for name in read}} if read else {}),
            **({"processes": [cache_inputs.processes, cache_inputs.sharding]} if cache_inputs.processes > 1 else {}),
            "base": cache_inputs.base,
            "knowledge": cache_inputs.knowledge,
            "old_data": cache_inputs.old_data,
            "training": {**cache_inputs.training, **self.training},
            "seed": self.seed,
            "device": cache_inputs.device,
            "precision": cache_inputs.precision,
            "core": code_digest(PACKAGE_ROOT / "experiment" / "train.py", *_models()),
            "versions": versions(*_TRAINS, *(("deepspeed",) if cache_inputs.sharding.startswith("zero") else ())),
        }

    def answers_recipe(self, cache_inputs: CacheInputs, adapter: str, questions: Sequence[Question]) -> CacheKey:
        """What makes the answers to one benchmark.

        The batch size is part of it: rows of a batch are padded to the longest, which changes how floating-point sums
        round, and with it the answer wherever two words are (almost) equally likely.

        Args:
            ground: What all cells stand on.
            adapter: Sha256 of the adapter's content, empty for the untouched base.
            questions: Those of the benchmark, in the order in which they are asked.
        """
        return {
            **self.identity(),
            "base": cache_inputs.base,
            "adapter": adapter,
            "questions": questions_digest(questions),
            "decoding": {"strategy": "greedy", "batch_size": cache_inputs.batch_size},
            "device": cache_inputs.device,
            "precision": cache_inputs.precision,
            "core": code_digest(PACKAGE_ROOT / "models" / "batched_generation.py", *_models()),
            "versions": versions(*_ANSWERS),
        }


def scores_recipe(answers: str, benchmark: str, questions: Sequence[Question]) -> CacheKey:
    """What makes a score.

    Args:
        answers: Sha256 of the answers' content.
        benchmark: The benchmark's fingerprint, scorer and data.
        questions: Those that were asked, for a limited run asks fewer.
    """
    return {"answers": answers, "benchmark": benchmark, "questions": questions_digest(questions)}


def cells_of(names: Sequence[str], resolved: ResolvedSettings) -> list[Cell]:
    """The untouched base, then each named method with each value that it is crossed over and each seed.

    Rows that come to the same method with the same settings are one cell, called by the first of their names.

    Raises:
        UserError: A method or variant is unknown, or its settings are wrong.
    """
    from methods.registry import expanded, method_named

    rows = [name for name in expanded(names) if name != VANILLA]
    crossing.check(resolved.settings.cross, [_fields(method_named(name)[0]) for name in rows])
    found: dict[str, Cell] = {}
    for cell in (each for name in rows for each in _crossed(name, resolved)):
        key = digest([cell.method, _values(cell), dict(cell.training)])
        known = found.get(key)
        found[key] = dataclasses.replace(known, also=(*known.also, cell.label)) if known else cell
    cells = [dataclasses.replace(cell, seed=seed) for cell in found.values() for seed in resolved.settings.seeds]
    return [Cell(VANILLA, "", 0, None), *cells]


def _crossed(name: str, resolved: ResolvedSettings) -> Iterator[Cell]:
    """A row with each combination of the values that it is crossed over, at seed 0."""
    from methods.registry import method_named

    method, variant = method_named(name)
    label, cross = name.partition(":")[2], resolved.settings.cross
    plain = method_settings(resolved, method.name, label).values
    for point in crossing.grid(cross, _fields(method), variant.settings if variant else {}):
        chosen = label or _twin(method, plain, point)
        core, own = crossing.split_point(point)
        settings = method_settings(resolved, method.name, chosen, own)
        swept, training = (
            crossing.sweep_axis(cross, point),
            crossing.training_overrides(resolved.settings.training, core),
        )
        yield Cell(method.name, chosen, 0, settings, name, point, swept, training=training)


def _twin(method: type[InjectionMethod], plain: Any, point: Mapping[str, Any]) -> str:
    """The variant that a method becomes by the values it is crossed over; what the preset says of that then holds."""
    for name, variant in method.variants.items():
        changed = any(getattr(plain, key) != value for key, value in variant.settings.items())
        if changed and variant.settings.items() <= point.items():
            return name
    return ""


def _fields(method: type[InjectionMethod]) -> frozenset[str]:
    """What it can be crossed over: its own settings and those of the training core."""
    return crossing.TRAINING_FIELDS | {each.name for each in dataclasses.fields(method.Settings)}


def _values(cell: Cell) -> dict[str, Any]:
    """The cell's settings as plain values."""
    return dict(cell.settings.values.recipe()) if cell.settings else {}


def _sources(method: InjectionMethod) -> list[Path]:
    """The files that define a method and its bases; a plug-in's, too, whose module nobody can import by name."""
    files = set()
    for kind in type(method).__mro__:
        module = getattr(sys.modules.get(kind.__module__), "__file__", None)
        hooks = [hook.__code__.co_filename for hook in vars(kind).values() if inspect.isfunction(hook)]
        files |= {Path(file) for file in (*hooks, module) if file and kind is not object}
    return sorted(file for file in files if file.suffix == ".py" and file.is_file())


def _models() -> list[Path]:
    return sorted((PACKAGE_ROOT / "models").glob("*.py"))
