"""What a scorer found, and the small sums that all scorers share. Runs in ``vlmeval.worker``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.retention_specs import RetentionSpec
from benchmarks.vlmeval import adapter as vlmeval_adapter

Values = dict[str, dict[str, float]]


@dataclass
class ScoringResult:
    """What one evaluation gave; metrics on 0-100, single values on 0-1."""

    headline: float | None
    metrics: dict[str, float]
    values: Values
    unread: set[str] = field(default_factory=set)
    """Ids of the answers in which nothing could be read."""
    notes: list[str] = field(default_factory=list)


def by_id(table: Any, column: str) -> dict[str, Any]:
    """A column by question id."""
    return {str(index): value for index, value in zip(table["index"], table[column], strict=True)}


def first_of_each(groups: Iterable[tuple[str, Any, float]]) -> dict[str, float]:
    """From (id, group, hit): the first id of each group with whether all of the group hit."""
    members: dict[Any, list[tuple[str, float]]] = {}
    for question_id, group, hit in groups:
        members.setdefault(group, []).append((question_id, hit))
    return {hits[0][0]: float(all(hit for _, hit in hits)) for hits in members.values()}


def numbers(row: Mapping[str, Any], scale: float, prefix: str) -> dict[str, float]:
    """The numeric columns of a result row, as "prefix/column"."""
    wanted = {name: value for name, value in row.items() if isinstance(value, int | float) and value == value}
    return {f"{prefix}/{name}": scale * float(value) for name, value in wanted.items()}


def mean(hits: Mapping[str, float]) -> float:
    """On 0-100."""
    return 100 * sum(hits.values()) / len(hits)


@dataclass(frozen=True)
class Run:
    """One evaluation: a fresh folder with the predictions in it, so that no stale file can be taken for a result."""

    kit: vlmeval_adapter.VLMEvalModules
    spec: RetentionSpec
    dataset: Any
    folder: Path
    judge: str

    @property
    def model(self) -> str:
        """How VLMEvalKit names its files."""
        return self.judge or "exact_matching"

    def evaluate(self) -> Any:
        """VLMEvalKit's own result."""
        return self.dataset.evaluate(str(self.folder / "run.tsv"), model=self.model, nproc=1)

    def read(self, suffix: str) -> Any:
        """A table that VLMEvalKit left beside the predictions."""
        return self.kit.files.load(str(self.folder / f"run{suffix}.tsv"))


MME_GROUPS = {
    "perception": "OCR artwork celebrity color count existence landmark position posters scene".split(),  # noqa: SIM905
    "reasoning": ["code_reasoning", "commonsense_reasoning", "numerical_calculation", "text_translation"],
}
