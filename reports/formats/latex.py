r"""Tables as LaTeX with booktabs, to be \input into a paper."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from reports.statistics.estimates import Estimate
from reports.table import Column, Table, TableRow, TextTable
from reports.text import MISSING, footnote_symbols, format_number, format_seed_sd

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",
    "]": "{]}",
    "*": r"{*}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "–": "--",
    "−": r"\ensuremath{-}",
    "†": r"\ensuremath{\dagger}",
    "‡": r"\ensuremath{\ddagger}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "‖": r"\ensuremath{\|}",
    "◊": r"\ensuremath{\diamond}",
    "¬": r"\ensuremath{\neg}",
    "△": r"\ensuremath{\triangle}",
    "∩": r"\ensuremath{\cap}",
    "⊤": r"\ensuremath{\top}",
    "⊕": r"\ensuremath{\oplus}",
    "…": r"\dots{}",
    "±": r"\ensuremath{\pm}",
    "“": "``",
    "”": "''",
    "·": r"\textperiodcentered{}",
    "×": r"\ensuremath{\times}",
    "→": r"\ensuremath{\rightarrow}",
}

LINES = 20
"""Lines on one page; longer tables continue on the next."""
COLUMNS = 16
"""Columns on one page; wider tables continue on the next."""
REQUIREMENTS = (
    "% Needs \\usepackage{booktabs,graphicx,textcomp}; names in other than Latin letters need XeLaTeX or LuaLaTeX."
)


def escape(text: str) -> str:
    """Escape text so that LaTeX prints it and never runs it."""
    return "".join(_SPECIAL.get(sign, sign) for sign in text)


def render(table: Table) -> str:
    """Write one or more ``table*`` floats of at most a page each; they need booktabs, graphicx and textcomp."""
    columns = _bands(table.columns)
    lines = [table.lines[start : start + LINES] for start in range(0, len(table.lines), LINES)] or [()]
    parts = [(page_lines, page_columns) for page_lines in lines for page_columns in columns]
    floats = [_float(table, *part, place, len(parts)) for place, part in enumerate(parts)]
    return "\n".join([REQUIREMENTS, *floats])


def listing(table: TextTable) -> str:
    """Write a listing as floats of at most a page each."""
    pages = [table.records[start : start + 2 * LINES] for start in range(0, len(table.records), 2 * LINES)] or [()]
    head = [" & ".join(map(escape, table.heads)) + r" \\"]
    floats = []
    for place, records in enumerate(pages):
        body = [" & ".join(map(escape, record)) + r" \\" for record in records]
        floats.append(_framed(table, "l" * len(table.heads), head, body, place, len(pages)))
    return "\n".join([REQUIREMENTS, *floats])


def _bands(columns: Sequence[Column]) -> list[tuple[Column, ...]]:
    """Split the columns into pages; a group stays together."""
    bands: list[tuple[Column, ...]] = [()]
    for _, group in groupby(columns, key=lambda column: column.group):
        columns_of_group = tuple(group)
        if bands[-1] and len(bands[-1]) + len(columns_of_group) > COLUMNS:
            bands.append(())
        bands[-1] += columns_of_group
    return bands


def _float(table: Table, lines: Sequence[TableRow], columns: tuple[Column, ...], place: int, count: int) -> str:
    body = []
    for line in lines:
        if line.state == "group" and line is not lines[0]:
            body.append("\\midrule")
        label = escape(line.label) + (f" ({escape(line.remark)})" if line.remark else "")
        estimates = [line.cells.get(column.key) for column in columns]
        body.append(" & ".join([label, *map(_value, estimates)]) + r" \\")
        body.append(" & ".join(["", *map(_interval, estimates)]) + r" \\")
    return _framed(table, "l" + "r" * len(columns), _head(table, columns), body, place, count)


def _framed(
    table: Table | TextTable, alignment: str, head: Sequence[str], body: Sequence[str], place: int, count: int
) -> str:
    """A float, never wider than the page; of several, the first has the label and the last the notes."""
    part = f" ({place + 1} of {count})" if count > 1 else ""
    lines = [
        "\\begin{table*}[p]" if count > 1 else "\\begin{table*}[t]",
        "\\centering\\footnotesize",
        f"\\caption{{{escape(table.title)}{part}.}}",
        *([f"\\label{{tab:{table.key}}}"] if place == 0 else []),
        "\\resizebox{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{{alignment}}}",
        "\\toprule",
        *head,
        "\\midrule",
        *body,
        "\\bottomrule",
        "\\end{tabular}}",
    ]
    if table.notes and place == count - 1:
        lines += ["", "\\medskip\\scriptsize\\raggedright", *(f"{escape(note)}\\par" for note in table.notes)]
    return "\n".join([*lines, "\\end{table*}", ""])


def _head(table: Table, columns: Sequence[Column]) -> list[str]:
    spans, rules, start = [], [], 2
    for group, members in groupby(columns, key=lambda column: column.group):
        width = len(list(members))
        spans.append(f"\\multicolumn{{{width}}}{{c}}{{{escape(group)}}}")
        rules.append(f"\\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    titles = [escape(column.title) for column in columns]
    counts = ["" if (n := table.n(column)) is None else f"{{\\tiny $n={n}$}}" for column in columns]
    head = [" & ".join(["", *spans]) + r" \\", " ".join(rules)] if any(c.group for c in columns) else []
    head.append(" & ".join([escape(table.heading), *titles]) + r" \\")
    return [*head, " & ".join(["", *counts]) + r" \\"] if any(counts) else head


def _value(estimate: Estimate | None) -> str:
    if estimate is None:
        return "--"
    if format_number(estimate.value) == MISSING:
        return "--" + escape(footnote_symbols(estimate.marks))
    value = format_number(estimate.value)
    value = {1: f"\\textbf{{{value}}}", 2: f"\\underline{{{value}}}"}.get(estimate.rank, value)
    raised = escape(footnote_symbols(estimate.marks)) + ("{*}" if estimate.significant else "")
    return f"{value}\\rlap{{\\textsuperscript{{{raised}}}}}" if raised else value


def _interval(estimate: Estimate | None) -> str:
    if estimate is None or format_number(estimate.low) == MISSING or format_number(estimate.value) == MISSING:
        return ""
    low, high = format_number(estimate.low), format_number(estimate.high)
    return f"{{\\tiny {{[}}{low}, {high}{{]}}{escape(format_seed_sd(estimate.seed_sd))}}}"
