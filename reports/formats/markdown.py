"""Tables as GitHub-flavoured Markdown."""

from __future__ import annotations

import re

from reports.statistics.estimates import Estimate
from reports.table import Table, TextTable
from reports.text import MISSING, footnote_symbols, format_number, format_seed_sd

_SPECIAL = re.compile(r"([\\`*_\[\]#!|~$@]|:(?=/)|(?<=www)\.|^[-+])", re.IGNORECASE)


def escape(text: str) -> str:
    """Escape text so that it cannot become markup, a link, a mention, a formula or HTML."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", text)


def render(table: Table) -> str:
    """Write the table with its title and notes."""
    heads = [escape(table.heading)]
    for column in table.columns:
        n = table.n(column)
        heads.append(escape(table.column_title(column)) + (f"<br><sub>n = {n}</sub>" if n is not None else ""))
    rows = ["| " + " | ".join(heads) + " |", "|" + "|".join([" :--- ", *[" ---: "] * len(table.columns)]) + "|"]
    for line in table.lines:
        label = escape(line.label) + (f" ({escape(line.remark)})" if line.remark else "")
        cells = [_cell(line.cells.get(column.key)) for column in table.columns]
        rows.append("| " + " | ".join([label, *cells]) + " |")
    notes = [f"- {escape(note)}" for note in table.notes]
    return "\n".join([f"### {escape(table.title)}", "", *rows, "", *notes, ""])


def listing(table: TextTable) -> str:
    """Write a listing with its title and notes."""
    rows = ["| " + " | ".join(map(escape, record)) + " |" for record in (table.heads, *table.records)]
    rows.insert(1, "|" + " :--- |" * len(table.heads))
    return "\n".join([f"### {escape(table.title)}", "", *rows, "", *(f"- {escape(note)}" for note in table.notes), ""])


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return MISSING
    if format_number(estimate.value) == MISSING:
        return MISSING + footnote_symbols(estimate.marks)
    value = format_number(estimate.value)
    value = {1: f"**{value}**", 2: f"<ins>{value}</ins>"}.get(estimate.rank, value)
    value += footnote_symbols(estimate.marks) + (r"\*" if estimate.significant else "")
    if format_number(estimate.low) == MISSING:
        return value
    low, high = format_number(estimate.low), format_number(estimate.high)
    return f"{value}<br><sub>[{low}, {high}]{format_seed_sd(estimate.seed_sd)}</sub>"
