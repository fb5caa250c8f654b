"""What every format is made from: tables of numbers, and listings of words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reports.statistics.estimates import Estimate


@dataclass(frozen=True)
class Column:
    """One column: unique key, heading, the group it belongs to and what it means."""

    key: str
    title: str
    group: str = ""
    help: str = ""


@dataclass(frozen=True)
class TableRow:
    """One line. ``cells`` maps a column's key to a number; a column without one is missing here.

    ``state`` says in words what keeps the line from being ranked, or that it is the baseline.
    """

    key: str
    label: str
    cells: Mapping[str, Estimate]
    state: str = ""
    group: str = ""


@dataclass(frozen=True)
class Table:
    """A table ready to be written. All text in it is already harmless in length and direction, not yet escaped."""

    key: str
    title: str
    heading: str
    """What the lines are: "method" or "type"."""
    columns: tuple[Column, ...]
    lines: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()

    def n(self, column: Column) -> int | None:
        """The number of questions behind a column, if it is the same in all lines."""
        found = {line.cells[column.key].n for line in self.lines if column.key in line.cells}
        return found.pop() if len(found) == 1 else None


@dataclass(frozen=True)
class TextTable:
    """Records of text under headings, as ``Table`` not yet escaped.

    Args:
        key: File name without its ending.
        title: Heading.
        heads: One for each field.
        records: As many fields each.
        notes: What stands below.
    """

    key: str
    title: str
    heads: tuple[str, ...]
    records: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
