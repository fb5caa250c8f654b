"""The file format of ``results.json``: the record of a finished run, and all that a report needs.

    Run                          one command: title, preset, notes, signature
      cells: CellResult          one trained model: model x method x data x seed, with settings, log and cost
        scores: BenchmarkResult  by benchmark: headline, metrics, marks
          items: ItemResult      by question: the answer and its values
        stages: StageResult      only if the knowledge arrived in parts
      questions: QuestionEntry   each question once, for all cells
      pictures                   thumbnails, by the keys that questions name

The harness writes it. Every table, plot and page is made from this record alone, so a report can be rebuilt anywhere,
without the model. ``docs/schemas`` holds the JSON Schema, which includes the class docstrings below word for word:
changing a field or a docstring changes the published schema. A field that changes its meaning raises ``VERSION``; new
fields have defaults, so that older files can still be read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError, with_config
from pydantic_core import PydanticSerializationError

from benchmarks.errors import UserError
from reports.marks import UNRANKED

VERSION = 1
"""Raised whenever a field changes its meaning."""

VANILLA = "vanilla"
"""The method name of the untouched base, the baseline of every table."""

ELSEWHERE = "elsewhere"
"""The data of a row that was trained or answered by another program: its costs are not known."""
SCALED = "update factor"
"""Stands for a setting in ``swept`` where rows differ in the factor by which one trained update is multiplied."""

CellStatus = Literal["ok", "diverged", "oom", "interrupted", "failed", "missing"]
ItemStatus = Literal["parsed", "unparsed", "empty", "failed"]

_strict = with_config(ConfigDict(extra="forbid", ser_json_inf_nan="strings", arbitrary_types_allowed=False))


@_strict
@dataclass(frozen=True)
class Setting:
    """One resolved setting and where its value came from (default, preset, variant, command line, ...)."""

    value: JsonValue
    origin: str = ""


@_strict
@dataclass(frozen=True)
class TrainingStep:
    """One line of the training log. ``loss`` is the mean over supervised tokens, in nats."""

    step: int
    loss: float
    learning_rate: float = 0.0
    grad_norm: float = 0.0


@_strict
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
    """Processes that trained together; the seconds are those of each process."""


@_strict
@dataclass(frozen=True)
class Answering:
    """Which engine answered, and how it was compared with the built-in one before.

    Args:
        engine: "builtin", or the name and version of another.
        reason: Why the built-in engine answered where another was asked for.
        compared: Questions that both answered first.
        differing: Those of them with different answers.
    """

    engine: str = "builtin"
    reason: str = ""
    compared: int = 0
    differing: int = 0


# The published schema keeps the old name ``reports.headlines`` of ``reports.statistics.ratios`` in this docstring.
@_strict
@dataclass(frozen=True)
class ItemResult:
    """One question's outcome: metric name to value in [0, 1], and the answer as given (turns joined by blank lines).

    How a headline follows from its items' values, ``reports.headlines`` knows for the benchmarks that we have. Any
    other may give ``values["score"]``, whose mean is its headline, and ``values["weight"]`` if items weigh unequally.
    ``truncated`` answers used all the new tokens that they may have, and did not end, or ended in a thinking block.
    ``thinking`` says that there was such a block, which was cut before scoring; it is still in ``answer``.
    """

    question_id: str
    values: Mapping[str, float]
    answer: str = ""
    status: ItemStatus = "parsed"
    truncated: bool = False
    thinking: bool = False


@_strict
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
    """How this number was made: protocol, data, scorer, judge, decoding. Only numbers with equal signatures compare."""

    @property
    def n(self) -> int:
        """Number of questions."""
        return len(self.items)

    def count(self, status: ItemStatus) -> int:
        """Count the answers with this status."""
        return sum(item.status == status for item in self.items)

    @property
    def truncated(self) -> int:
        """Number of answers that were cut at the limit of new tokens."""
        return sum(item.truncated for item in self.items)


@_strict
@dataclass(frozen=True)
class StageResult:
    """One injection stage of a cell, where the knowledge arrives in parts.

    Args:
        number: From 1.
        items: Knowledge items of its part.
        questions: Ids of the adaptation benchmark's questions about its own part.
        adaptation: K.A, in [0, 1], of each question about the parts so far, as answered after this stage.
        name: That of its data set in a task sequence; empty for a random part.
    """

    number: int
    items: int
    questions: tuple[str, ...]
    adaptation: Mapping[str, float]
    name: str = ""


@_strict
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
    """The swept settings with this row's values, e.g. {"data": "kore", "learning_rate": 0.003}; also in the label."""
    swept: str = ""
    """The one of them that is the x axis of a curve, of which the row is one point."""
    curve: str = ""
    """The label without that setting; cells of one model with the same ``curve`` are points of the same curve."""
    size_reference: bool = False
    """Whether the numbers of trained parameters of other rows are compared with this row's."""
    summary: str = ""
    """What the method does, in one sentence."""
    our_reading: str = ""
    """Where the implementation is our interpretation (``InjectionMethod.interpretation``), and the samples it drew."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    """Of a method that is not of this program: its files with digests, and installed packages with versions."""
    training: tuple[TrainingStep, ...] = ()
    branches: Mapping[str, int] = field(default_factory=dict)
    """Training conversations by branch: knowledge, dialogue, recognition, caption, vqa, replay, ..."""
    cost: Cost = Cost()
    scores: Mapping[str, BenchmarkResult] = field(default_factory=dict)
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    signature: str = ""
    answering: Answering = Answering()
    stages: tuple[StageResult, ...] = ()
    """Empty if all knowledge comes at once."""
    evaluation_inputs: tuple[str, ...] = ()
    """Benchmarks whose prompts the method has read, such as those whose inputs it protects."""

    @property
    def is_vanilla(self) -> bool:
        """Whether this is the untouched base."""
        return self.method == VANILLA

    @property
    def from_elsewhere(self) -> bool:
        """Whether another program trained or answered it, so that a cost of zero is not known."""
        return self.data == ELSEWHERE

    @property
    def ranked(self) -> bool:
        """Whether this cell may be ranked against others."""
        return self.status == "ok" and not set(self.marks) & set(UNRANKED)


@_strict
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


@_strict
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
        further: Benchmarks beyond EVOKE and the paper's twelve, with what each measures; part of no summary.
    """

    title: str
    preset: str = ""
    cells: tuple[CellResult, ...] = ()
    questions: tuple[QuestionEntry, ...] = ()
    pictures: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    signature: str = ""
    version: int = VERSION
    further: Mapping[str, str] = field(default_factory=dict)


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Run]:
    return TypeAdapter(Run)


def to_json(run: Run) -> bytes:
    """Serialise to UTF-8 JSON; floats keep all digits, and NaN and infinities become strings.

    Half a surrogate pair, which UTF-8 cannot hold, becomes a question mark: no text of a run may lose its record.
    """
    try:
        return _adapter().dump_json(run)
    except PydanticSerializationError:
        document = _adapter().dump_python(run, mode="json")
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def from_json(text: bytes, *, where: str = "results.json") -> Run:
    """Parse what ``to_json`` wrote.

    Args:
        text: UTF-8 JSON.
        where: The file, for error messages.

    Raises:
        UserError: The text is not a run record, or has another version.
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
    """Return the JSON Schema of ``results.json``."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_adapter().json_schema()}
