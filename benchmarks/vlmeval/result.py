"""The result of a scoring job, and small helpers shared by all scoring rules. Runs in ``vlmeval.worker``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.retention_specs import RetentionSpec
from benchmarks.vlmeval.adapter import VLMEvalModules

MME_GROUPS = {
    "perception": "OCR artwork celebrity color count existence landmark position posters scene".split(),  # noqa: SIM905
    "reasoning": ["code_reasoning", "commonsense_reasoning", "numerical_calculation", "text_translation"],
}
ItemValues = dict[str, dict[str, float]]
"""Question id -> metric name -> value on 0-1."""


@dataclass
class ScoringResult:
    """The result of one evaluation; metrics are on 0-100, item values on 0-1."""

    headline: float | None
    metrics: dict[str, float]
    values: ItemValues
    unread: set[str] = field(default_factory=set)
    """Ids of answers that could not be parsed."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class EvaluationRun:
    """One evaluation in a new folder that holds only the predictions, so that no stale file is taken for a result."""

    kit: VLMEvalModules
    spec: RetentionSpec
    dataset: Any
    folder: Path
    judge: str

    @property
    def model(self) -> str:
        """The judge's name in VLMEvalKit's file names."""
        return self.judge or "exact_matching"

    def evaluate(self) -> Any:
        """Run VLMEvalKit's own evaluation."""
        return self.dataset.evaluate(str(self.folder / "run.tsv"), model=self.model, nproc=1)

    def read(self, suffix: str) -> Any:
        """Read a table that VLMEvalKit wrote beside the predictions."""
        return self.kit.files.load(str(self.folder / f"run{suffix}.tsv"))


def by_id(table: Any, column: str) -> dict[str, Any]:
    """A column by question id."""
    return {str(index): value for index, value in zip(table["index"], table[column], strict=True)}


def first_of_each(groups: Iterable[tuple[str, Any, float]]) -> dict[str, float]:
    """From (id, group, hit): the first id of each group -> whether the whole group hit."""
    members: dict[Any, list[tuple[str, float]]] = {}
    for question_id, group, hit in groups:
        members.setdefault(group, []).append((question_id, hit))
    return {hits[0][0]: float(all(hit for _, hit in hits)) for hits in members.values()}


def numeric_columns(row: Mapping[str, Any], scale: float, prefix: str) -> dict[str, float]:
    """The numeric columns of a result row, as "prefix/column"; NaN is left out."""
    numbers = {name: value for name, value in row.items() if isinstance(value, int | float) and value == value}
    return {f"{prefix}/{name}": scale * float(value) for name, value in numbers.items()}


def mean(hits: Mapping[str, float]) -> float:
    """The mean on 0-100."""
    return 100 * sum(hits.values()) / len(hits)
