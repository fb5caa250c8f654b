"""Tables for the terminal, folded to its width."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from reports.statistics.estimates import Estimate
from reports.table import Column, Table, TextTable
from reports.text import MISSING, footnote_symbols, format_number

_LABEL_WIDTH = 26
_NUMBER_WIDTH = 11


def show(table: Table, console: Console) -> None:
    """Print the table; columns that do not fit the width continue below, the label repeated."""
    per_page = max(1, (console.width - _LABEL_WIDTH - 2) // (_NUMBER_WIDTH + 2))
    pages = [table.columns[start : start + per_page] for start in range(0, len(table.columns), per_page)] or [()]
    for number, columns in enumerate(pages):
        title = table.title if len(pages) == 1 else f"{table.title} ({number + 1} of {len(pages)})"
        console.print(_grid(table, columns, title))
    for note in table.notes:
        console.print(Text(note, style="dim"))


def show_listing(table: TextTable, console: Console) -> None:
    """Print a listing; long fields are folded."""
    grid = Grid(title=Text(table.title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for place, head in enumerate(table.heads):
        longest = max(map(len, (head, *(record[place] for record in table.records))))
        grid.add_column(Text(head, style="bold"), overflow="fold", no_wrap=longest <= _NUMBER_WIDTH)
    for record in table.records:
        grid.add_row(*map(Text, record))
    console.print(grid)
    for note in table.notes:
        console.print(Text(note, style="dim"))


def _grid(table: Table, columns: tuple[Column, ...], title: str) -> Grid:
    grid = Grid(title=Text(title), title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="")
    grid.add_column(Text(table.heading, style="bold"), max_width=_LABEL_WIDTH, overflow="fold")
    for column in columns:
        head = Text(table.column_title(column), style="bold")
        if (n := table.n(column)) is not None:
            head.append(f"\nn={n}", style="dim")
        grid.add_column(head, justify="right", no_wrap=True)
    for line in table.lines:
        label = Text(line.label, style="dim" if line.state == "baseline" else "")
        if line.remark:
            label.append(f"\n{line.remark}", style="dim")
        grid.add_row(label, *(_cell(line.cells.get(column.key)) for column in columns))
    return grid


def _cell(estimate: Estimate | None) -> Text:
    if estimate is None or format_number(estimate.value) == MISSING:
        return Text(MISSING, style="dim")
    text = Text(format_number(estimate.value), style={1: "bold", 2: "underline"}.get(estimate.rank, ""))
    text.append(footnote_symbols(estimate.marks) + ("*" if estimate.significant else ""), style="none")
    if format_number(estimate.low) != MISSING:
        text.append(f"\n{format_number(estimate.low, 1)}–{format_number(estimate.high, 1)}", style="dim none")
    return text
