"""Tables as GitHub-flavoured Markdown."""

from __future__ import annotations

import re

from reports.model import Table, TextTable
from reports.statistics.estimates import Estimate
from reports.text import MISSING, format_number, over_seeds, symbols

_SPECIAL = re.compile(r"([\\`*_\[\]#!|~$@]|:(?=/)|(?<=www)\.|^[-+])", re.IGNORECASE)


def escape(text: str) -> str:
    """Text that stays text: no markup, link, mention, formula or HTML can come of it."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", text)


def render(table: Table) -> str:
    """The table with its title and notes."""
    heads = [escape(table.heading)]
    for column in table.columns:
        n = table.n(column)
        title = f"{column.group} {column.title}" if table.key == "types" else column.title
        heads.append(escape(title) + (f"<br><sub>n = {n}</sub>" if n is not None else ""))
    rows = ["| " + " | ".join(heads) + " |", "|" + "|".join([" :--- ", *[" ---: "] * len(table.columns)]) + "|"]
    for line in table.lines:
        label = escape(line.label) + (f" ({escape(line.state)})" if line.state and line.state != "group" else "")
        cells = [_cell(line.cells.get(column.key)) for column in table.columns]
        rows.append("| " + " | ".join([label, *cells]) + " |")
    notes = [f"- {escape(note)}" for note in table.notes]
    return "\n".join([f"### {escape(table.title)}", "", *rows, "", *notes, ""])


def listing(whole: TextTable) -> str:
    """A listing with its title and notes."""
    rows = ["| " + " | ".join(map(escape, record)) + " |" for record in (whole.heads, *whole.records)]
    rows.insert(1, "|" + " :--- |" * len(whole.heads))
    return "\n".join([f"### {escape(whole.title)}", "", *rows, "", *(f"- {escape(note)}" for note in whole.notes), ""])


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return MISSING
    if format_number(estimate.value) == MISSING:
        return MISSING + symbols(estimate.marks)
    value = format_number(estimate.value)
    value = {1: f"**{value}**", 2: f"<ins>{value}</ins>"}.get(estimate.rank, value)
    value += symbols(estimate.marks) + (r"\*" if estimate.significant else "")
    if format_number(estimate.low) == MISSING:
        return value
    return (
        f"{value}<br><sub>[{format_number(estimate.low)}, {format_number(estimate.high)}]{over_seeds(estimate)}</sub>"
    )
