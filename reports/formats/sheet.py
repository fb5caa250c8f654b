"""Tables as CSV that a spreadsheet opens without running a formula."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence

from reports.table import Table, TextTable
from reports.text import footnote_symbols, format_number

FIELDS = ("", "low", "high", "n", "delta", "p", "seed sd", "rank", "marks", "unread %", "truncated %", "lenient")
"""The CSV fields of each column of a table; the first is the number itself."""

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def escape(text: str) -> str:
    """Escape text that a spreadsheet would take for a formula."""
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@", "|", "%") else text


def render(table: Table) -> str:
    """Write one record for each line, with the ``FIELDS`` for each column of the table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heads = [table.heading, "state"]
    for column in table.columns:
        heads += [escape(f"{table.column_title(column)} {field}".strip()) for field in FIELDS]
    writer.writerow(heads)
    for line in table.lines:
        record = [escape(line.label), escape(line.state)]
        for column in table.columns:
            one = line.cells.get(column.key)
            if one is None:
                record += [""] * len(FIELDS)
                continue
            numbers = (one.value, one.low, one.high, one.delta, one.p, one.seed_sd)
            value, low, high, delta, p, spread = (
                format_number(number, 4 if index == 4 else 2) if math.isfinite(number) else ""
                for index, number in enumerate(numbers)
            )
            marks = footnote_symbols(one.marks) and " ".join(one.marks)
            record += [value, low, high, str(one.n), delta, p, spread, str(one.rank or ""), escape(marks)]
            record += [
                format_number(number) if math.isfinite(number) else ""
                for number in (one.unread, one.truncated, one.lenient)
            ]
        writer.writerow(record)
    return out.getvalue()


def show(value: object) -> str:
    """Format a value of the long table: four decimals, or nothing for NaN."""
    if isinstance(value, float):
        return format_number(value, 4) if math.isfinite(value) else ""
    return str(value)


def records(rows: Iterable[Sequence[str]]) -> str:
    """Write plain records; every text is escaped, numbers stay numbers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        writer.writerow([text if _NUMBER.fullmatch(text) else escape(text) for text in row])
    return out.getvalue()


def listing(table: TextTable) -> str:
    """Write a listing: its headings and records."""
    return records([table.heads, *table.records])
