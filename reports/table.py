"""The tables that every format writes: of numbers (``Table``) and of text (``TextTable``)."""

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
    """One line. ``cells`` maps a column's key to a number; columns without a number are left out.

    ``state`` names the marks of a line that is not ranked, or says that it is the baseline.
    """

    key: str
    label: str
    cells: Mapping[str, Estimate]
    state: str = ""
    group: str = ""

    @property
    def remark(self) -> str:
        """What to print beside the label, if anything."""
        return "" if self.state == "group" else self.state


@dataclass(frozen=True)
class Table:
    """A table ready to be written. All text in it is sanitised (length, control characters) but not yet escaped."""

    key: str
    title: str
    heading: str
    """What the lines are: "Method", "Type", ..."""
    columns: tuple[Column, ...]
    lines: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()

    @property
    def has_shares(self) -> bool:
        """Whether an answer behind any number was unread or cut."""
        return any(one.unread > 0 or one.truncated > 0 for line in self.lines for one in line.cells.values())

    @property
    def has_lenient(self) -> bool:
        """Whether any number has one beside it whose answers are read leniently."""
        return any(one.lenient == one.lenient for line in self.lines for one in line.cells.values())

    def n(self, column: Column) -> int | None:
        """Return the number of questions behind a column, if there are any and as many in all lines."""
        counts = {line.cells[column.key].n for line in self.lines if column.key in line.cells}
        return (counts.pop() or None) if len(counts) == 1 else None

    def column_title(self, column: Column) -> str:
        """Return a column's title; with its group where several columns have the same titles."""
        several = len({each.title for each in self.columns}) < len(self.columns)
        return f"{column.group} {column.title}" if several else column.title


@dataclass(frozen=True)
class TextTable:
    """Records of text under headings; like ``Table`` sanitised but not yet escaped.

    Args:
        key: File name without its extension.
        title: Heading.
        heads: One for each field.
        records: As many fields each.
        notes: Sentences below the table.
    """

    key: str
    title: str
    heads: tuple[str, ...]
    records: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
