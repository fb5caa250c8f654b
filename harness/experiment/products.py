"""What a cell and each of its stages leave behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.records import Answer, Score
from harness.data.inputs import BenchmarkTask
from harness.experiment.cell import Cell, Status
from harness.experiment.stages import Record, Stage
from reports import record as record


@dataclass
class CellOutput:
    """What came of one cell."""

    cell: Cell
    status: Status = "ok"
    reason: str = ""
    trace: str = ""
    """Traceback of a bug."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """The stored training record: log, cost, figures."""
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    """By benchmark."""
    answering_seconds: float = 0.0
    scores: dict[str, Score] = field(default_factory=dict)
    signature: str = ""
    training_key: str = ""
    """Where the training record lies in the store; empty where nothing was trained."""
    answer_keys: dict[str, str] = field(default_factory=dict)
    """Where the answers lie, by benchmark."""
    leaks: int = 0
    """Evaluation questions that stand in its training data."""
    stages: list[StageOutput] = field(default_factory=list)
    """With several stages, what came of each that was begun; the scores after the last are the cell's own."""


@dataclass
class StageOutput:
    """What came of one stage of a cell."""

    step: Stage
    training: Record
    training_key: str
    about: tuple[str, ...]
    """Ids of the questions about its own part."""
    asked: BenchmarkTask | None = None
    """What was asked after it; None after the last, when every benchmark is asked in full."""
    answers: list[Answer] = field(default_factory=list)
    answers_key: str = ""
    seconds: float = 0.0
    """What answering took."""
    scores: dict[str, Score] = field(default_factory=dict)
