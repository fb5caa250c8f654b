"""The plain record of a finished run: all that a report needs, and nothing else.

The harness fills it and stores it as ``results.json``. Every table, plot and page is made from this record alone, so a
report can be rebuilt anywhere, without the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError

from benchmarks.errors import UserError

VERSION = 1
"""Raised whenever a field changes its meaning."""

VANILLA = "vanilla"
"""The method name of the untouched base; it is the baseline of every table."""

UNRANKED = ("limited", "transductive", "unjudged", "leaked")
"""Marks that keep a number out of every ranking (invariant I5). Other marks only show."""

CellStatus = Literal["ok", "diverged", "oom", "interrupted", "failed", "missing"]
ItemStatus = Literal["parsed", "unparsed", "empty", "failed"]

_CONFIG = ConfigDict(extra="forbid", ser_json_inf_nan="strings", arbitrary_types_allowed=False)


@dataclass(frozen=True)
class Setting:
    """One resolved setting and where its value came from (default, preset, variant, command line, ...)."""

    value: JsonValue
    origin: str = ""

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG


@dataclass(frozen=True)
class TrainingStep:
    """One line of the training log. ``loss`` is the mean over supervised tokens, in nats."""

    step: int
    loss: float
    learning_rate: float = 0.0
    grad_norm: float = 0.0

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG


@dataclass(frozen=True)
class Cost:
    """What a cell took. Only counts enter tables; seconds and bytes are shown on the page alone, for they vary."""

    training_seconds: float = 0.0
    answering_seconds: float = 0.0
    peak_memory_bytes: int = 0
    trainable_parameters: int = 0
    optimiser_steps: int = 0
    supervised_tokens: int = 0
    processes: int = 1
    """How many trained together, so that seconds are those of each of them."""

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG


@dataclass(frozen=True)
class ItemResult:
    """One question's outcome: metric name to value in [0, 1], and the answer as given (turns joined by blank lines).

    How a headline follows from its items' values, ``reports.headlines`` knows for the benchmarks that we have. Any
    other may give ``values["score"]``, whose mean is its headline, and ``values["weight"]`` if items weigh unequally.
    """

    question_id: str
    values: Mapping[str, float]
    answer: str = ""
    status: ItemStatus = "parsed"

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG


@dataclass(frozen=True)
class BenchmarkResult:
    """One benchmark's score for one cell. ``headline`` and ``metrics`` are on 0-100; no headline: not judged."""

    headline: float | None
    metrics: Mapping[str, float]
    items: tuple[ItemResult, ...]
    judge: str = ""
    notes: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    signature: str = ""
    """How this number was made, equal for numbers that may be compared: protocol, data, scorer, judge, decoding."""

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    @property
    def n(self) -> int:
        """Number of questions that were asked."""
        return len(self.items)

    def count(self, status: ItemStatus) -> int:
        """Number of answers with this status."""
        return sum(item.status == status for item in self.items)


@dataclass(frozen=True)
class StageResult:
    """One injection stage of a cell, where the knowledge arrives in parts.

    Args:
        number: From 1.
        items: Knowledge items of its part.
        questions: Ids of the adaptation benchmark's questions about its own part.
        adaptation: K.A, in [0, 1], of each question about the parts so far, as answered after this stage.
    """

    number: int
    items: int
    questions: tuple[str, ...]
    adaptation: Mapping[str, float]

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG


@dataclass(frozen=True)
class CellResult:
    """One cell: model x method x data x seed.

    ``label`` names the row, e.g. "KORE" or "KORE (no constraint)"; all seeds of a row share it. ``scores`` maps a
    benchmark's name to its result. ``diagnostics`` holds what a method measured of itself, e.g. the share of energy
    that layer 3 leaks out of the null space.
    """

    model: str
    method: str
    label: str
    seed: int
    variant: str = ""
    data: str = ""
    status: CellStatus = "ok"
    reason: str = ""
    """Why the status is not ok, in one sentence."""
    marks: tuple[str, ...] = ()
    crossed: Mapping[str, JsonValue] = field(default_factory=dict)
    """Settings that the row was crossed over, e.g. {"data": "kore", "learning_rate": 0.003}; the label names them."""
    swept: str = ""
    """The setting among them along which the row is one point of a curve."""
    curve: str = ""
    """The label without that setting: cells of one model with the same ``curve`` are the points of one."""
    summary: str = ""
    """What the method does, in one sentence."""
    our_reading: str = ""
    """What is our interpretation rather than the authors'."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    training: tuple[TrainingStep, ...] = ()
    cost: Cost = Cost()
    scores: Mapping[str, BenchmarkResult] = field(default_factory=dict)
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    signature: str = ""
    stages: tuple[StageResult, ...] = ()
    """Empty where all knowledge comes at once."""

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    @property
    def is_vanilla(self) -> bool:
        """Whether this is the untouched base."""
        return self.method == VANILLA

    @property
    def ranked(self) -> bool:
        """Whether this cell may be compared with others at all."""
        return self.status == "ok" and not set(self.marks) & set(UNRANKED)


@dataclass(frozen=True)
class QuestionEntry:
    """One question, once for all cells. Ids are unique within a benchmark.

    ``pictures`` are keys of ``Run.pictures``; ``cluster`` is shared by questions that are not independent (same image).
    """

    id: str
    benchmark: str
    text: str
    reference: str
    type: str = ""
    group: str = ""
    cluster: str = ""
    pictures: tuple[str, ...] = ()

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG


@dataclass(frozen=True)
class Run:
    """A whole run. Holds no time of day and no path, so that equal runs give equal bytes.

    Args:
        title: Heading of the report, e.g. "mini: kore, lora, replay".
        preset: Name of the preset.
        cells: In the order in which the user named them.
        questions: Every question that any cell was asked.
        pictures: Key to a small ``data:image/...;base64`` thumbnail.
        notes: Sentences for below the tables, e.g. that the miniature's scores are not the paper's.
        signature: How the run was made, in one line.
    """

    title: str
    preset: str = ""
    cells: tuple[CellResult, ...] = ()
    questions: tuple[QuestionEntry, ...] = ()
    pictures: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    signature: str = ""
    version: int = VERSION

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Run]:
    return TypeAdapter(Run)


def to_json(run: Run) -> bytes:
    """UTF-8 JSON; floats keep all digits, and NaN and infinities become strings."""
    return _adapter().dump_json(run)


def from_json(text: bytes, *, where: str = "results.json") -> Run:
    """Read back what ``to_json`` wrote.

    Raises:
        UserError: The text is no run record, or one of another version.
    """
    try:
        run = _adapter().validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(
            f"{path}: {first['msg']}", location=where, hint="run the command that made this folder again"
        ) from error
    if run.version != VERSION:
        raise UserError(
            f"record version {run.version}, but this program reads version {VERSION}",
            location=where,
            hint="run the command that made this folder again",
        )
    return run


def schema() -> dict[str, Any]:
    """The JSON Schema of ``results.json``."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_adapter().json_schema()}
