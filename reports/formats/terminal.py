"""Tables for the terminal, folded to its width."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from reports.model import Column, Table, TextTable
from reports.statistics.estimates import Estimate
from reports.text import MISSING, format_number, symbols

_LABEL, _NUMBER = 26, 11


def show(table: Table, console: Console) -> None:
    """Print the table; columns that do not fit the width continue below, the label repeated."""
    room = max(1, (console.width - _LABEL - 2) // (_NUMBER + 2))
    pages = [table.columns[start : start + room] for start in range(0, len(table.columns), room)] or [()]
    for number, columns in enumerate(pages):
        title = table.title if len(pages) == 1 else f"{table.title} ({number + 1} of {len(pages)})"
        console.print(_grid(table, columns, title))
    for note in table.notes:
        console.print(Text(note, style="dim"))


def show_listing(whole: TextTable, console: Console) -> None:
    """Print a listing; long fields are folded."""
    grid = Grid(title=Text(whole.title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for place, head in enumerate(whole.heads):
        longest = max(map(len, (head, *(record[place] for record in whole.records))))
        grid.add_column(Text(head, style="bold"), overflow="fold", no_wrap=longest <= _NUMBER)
    for record in whole.records:
        grid.add_row(*map(Text, record))
    console.print(grid)
    for note in whole.notes:
        console.print(Text(note, style="dim"))


def _grid(table: Table, columns: tuple[Column, ...], title: str) -> Grid:
    grid = Grid(title=Text(title), title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="")
    grid.add_column(Text(table.heading, style="bold"), max_width=_LABEL, overflow="fold")
    for column in columns:
        head = Text(column.title, style="bold")
        if (n := table.n(column)) is not None:
            head.append(f"\nn={n}", style="dim")
        grid.add_column(head, justify="right", no_wrap=True)
    for line in table.lines:
        label = Text(line.label, style="dim" if line.state == "baseline" else "")
        if line.state and line.state != "group":
            label.append(f"\n{line.state}", style="dim")
        grid.add_row(label, *(_cell(line.cells.get(column.key)) for column in columns))
    return grid


def _cell(estimate: Estimate | None) -> Text:
    if estimate is None or format_number(estimate.value) == MISSING:
        return Text(MISSING, style="dim")
    text = Text(format_number(estimate.value), style={1: "bold", 2: "underline"}.get(estimate.rank, ""))
    text.append(symbols(estimate.marks) + ("*" if estimate.significant else ""), style="none")
    if format_number(estimate.low) != MISSING:
        text.append(f"\n{format_number(estimate.low, 1)}–{format_number(estimate.high, 1)}", style="dim none")
    return text
