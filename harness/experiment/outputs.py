"""What cells and their stages produce."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.records import Answer, Score
from harness.config.extras import BUILTIN
from harness.data.inputs import BenchmarkTask
from harness.experiment.cell import Cell, Status
from harness.experiment.stages import Stage
from reports.record import Answering


@dataclass(frozen=True)
class AnswerSet:
    """The answers to one benchmark, in the order of its questions."""

    answers: list[Answer]
    seconds: float = 0.0
    """How long answering took."""
    entry_id: str = ""
    """The entry in the store."""


@dataclass
class StageOutput:
    """What one stage of a cell produced."""

    stage: Stage
    """Trained."""
    training_entry: str
    """Id of the stored training record."""
    question_ids: tuple[str, ...] = ()
    """With several stages, the questions about this stage's part of the knowledge."""
    task: BenchmarkTask | None = None
    """Questions asked after it; None after the last stage, because then every benchmark is asked."""
    answers: AnswerSet | None = None
    scores: dict[str, Score] = field(default_factory=dict)


@dataclass
class CellOutput:
    """What one cell produced."""

    cell: Cell
    status: Status = "ok"
    reason: str = ""
    """Why it did not end well."""
    trace: str = ""
    """Traceback of a bug."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """The stored training record: log, cost, diagnostics; with several stages all records merged."""
    training_entry: str = ""
    """Id of the stored training record; empty if nothing was trained."""
    answers: dict[str, AnswerSet] = field(default_factory=dict)
    """By benchmark."""
    scores: dict[str, Score] = field(default_factory=dict)
    """By benchmark."""
    signature: str = ""
    answering: Answering = field(default_factory=Answering)
    """Which engine answered."""
    answering_entry: str = ""
    """Id of the stored entry that says so; empty where only the built-in engine was asked for."""
    leaks: int = 0
    """Evaluation questions in its training data."""
    stages: list[StageOutput] = field(default_factory=list)
    """With several stages, those that were started. Answers and scores after the last are the cell's own."""

    @property
    def answering_seconds(self) -> float:
        """How long answering took, over all stages."""
        between = sum(stage.answers.seconds for stage in self.stages if stage.answers)
        return between + sum(answers.seconds for answers in self.answers.values())


def engine_notes(outputs: Sequence[CellOutput]) -> Iterator[str]:
    """What a run that asks for another engine says of its rows: how they compare, and which fell back, and why."""
    by_engine: dict[str, list[CellOutput]] = {}
    for output in outputs:
        if output.answering != Answering():
            by_engine.setdefault(output.answering.engine, []).append(output)
    for output in by_engine.pop(BUILTIN, ()):
        yield f"{output.cell.title}: answered by the built-in engine, because {output.answering.reason}."
    for engine, served in by_engine.items():
        compared = ", ".join(
            f"{output.cell.title} {output.answering.differing} of {output.answering.compared}" for output in served
        )
        yield f"Answered by {engine}. Before, answers that differed from those of the built-in engine: {compared}."
