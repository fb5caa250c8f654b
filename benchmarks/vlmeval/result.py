"""What a scorer found, and the small sums that all scorers share. Runs in ``vlmeval.worker``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Values = dict[str, dict[str, float]]


@dataclass
class Found:
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
