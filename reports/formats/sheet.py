"""Tables as CSV that a spreadsheet opens without running anything."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence

from reports.model import Table, TextTable
from reports.text import format_number, symbols

FIELDS = ("", "low", "high", "n", "delta", "p", "seed sd", "rank", "marks")
"""The fields of each column; the first is the number itself."""


_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def safe(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@", "|", "%") else text


def render(table: Table) -> str:
    """One record a line; a column of the table takes nine fields. Notes follow as comment records."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heads = [table.heading, "state"]
    for column in table.columns:
        name = f"{column.group} {column.title}" if table.key == "types" else column.title
        heads += [safe(f"{name} {field}".strip()) for field in FIELDS]
    writer.writerow(heads)
    for line in table.lines:
        record = [safe(line.label), safe(line.state)]
        for column in table.columns:
            one = line.cells.get(column.key)
            if one is None:
                record += [""] * len(FIELDS)
                continue
            numbers = (one.value, one.low, one.high, one.delta, one.p, one.spread)
            value, low, high, delta, p, spread = (
                format_number(number, 4 if index == 4 else 2) if math.isfinite(number) else ""
                for index, number in enumerate(numbers)
            )
            marks = symbols(one.marks) and " ".join(one.marks)
            record += [value, low, high, str(one.n), delta, p, spread, str(one.rank or ""), safe(marks)]
        writer.writerow(record)
    return out.getvalue()


def shown(value: object) -> str:
    """One value of a long table: four decimals, nothing where there is no number."""
    if isinstance(value, float):
        return format_number(value, 4) if math.isfinite(value) else ""
    return str(value)


def records(rows: Iterable[Sequence[str]]) -> str:
    """Plain records as CSV, every text made safe; numbers stay numbers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        writer.writerow([text if _NUMBER.fullmatch(text) else safe(text) for text in row])
    return out.getvalue()


def listing(whole: TextTable) -> str:
    """A listing: its headings and records."""
    return records([whole.heads, *whole.records])
