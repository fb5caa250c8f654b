r"""Tables as LaTeX with booktabs, to be \input into a paper."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from reports.model import Column, Table, TableRow, TextTable
from reports.statistics.estimates import Estimate
from reports.text import MISSING, format_number, over_seeds, symbols

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
    "…": r"\dots{}",
    "±": r"\ensuremath{\pm}",
    "“": "``",
    "”": "''",
    "·": r"\textperiodcentered{}",
    "×": r"\ensuremath{\times}",
    "→": r"\ensuremath{\rightarrow}",
}


LINES, COLUMNS = 20, 15
"""What one page holds, so that a long or wide table goes on on the next."""
NEEDS = "% Needs \\usepackage{booktabs,graphicx,textcomp}; names in other than Latin letters need XeLaTeX or LuaLaTeX."


def escape(text: str) -> str:
    """Text that LaTeX prints and never runs."""
    return "".join(_SPECIAL.get(sign, sign) for sign in text)


def render(table: Table) -> str:
    """One or more ``table*`` floats of at most a page each; needs booktabs, graphicx and textcomp."""
    columns = _bands(table.columns)
    lines = [table.lines[start : start + LINES] for start in range(0, len(table.lines), LINES)] or [()]
    parts = [(some, few) for some in lines for few in columns]
    floats = [_float(table, *part, place, len(parts)) for place, part in enumerate(parts)]
    return "\n".join([NEEDS, *floats])


def listing(whole: TextTable) -> str:
    """A listing as floats of at most a page each."""
    pages = [whole.records[start : start + 2 * LINES] for start in range(0, len(whole.records), 2 * LINES)] or [()]
    floats = []
    for place, records in enumerate(pages):
        rows = [" & ".join(map(escape, record)) + r" \\" for record in records]
        head = [" & ".join(map(escape, whole.heads)) + r" \\"]
        notes = whole.notes if place == len(pages) - 1 else ()
        floats.append(_framed(whole.title, whole.key, "l" * len(whole.heads), [head, rows], notes, place, len(pages)))
    return "\n".join([NEEDS, *floats])


def _bands(columns: Sequence[Column]) -> list[tuple[Column, ...]]:
    """Columns that stand beside each other on one page; a group is not torn apart."""
    bands: list[tuple[Column, ...]] = [()]
    for _, group in groupby(columns, key=lambda column: column.group):
        more = tuple(group)
        if bands[-1] and len(bands[-1]) + len(more) > COLUMNS:
            bands.append(())
        bands[-1] += more
    return bands


def _float(table: Table, lines: Sequence[TableRow], columns: tuple[Column, ...], place: int, count: int) -> str:
    body = []
    for line in lines:
        if line.state == "group" and line is not lines[0]:
            body.append("\\midrule")
        label = escape(line.label) + (f" ({escape(line.state)})" if line.state and line.state != "group" else "")
        estimates = [line.cells.get(column.key) for column in columns]
        body.append(" & ".join([label, *map(_value, estimates)]) + r" \\")
        body.append(" & ".join(["", *map(_interval, estimates)]) + r" \\")
    notes = table.notes if place == count - 1 else ()
    return _framed(table.title, table.key, "l" + "r" * len(columns), [_head(table, columns), body], notes, place, count)


def _framed(
    title: str, key: str, shape: str, parts: Sequence[Sequence[str]], notes: Sequence[str], place: int, count: int
) -> str:
    """A float; never wider than the page, and its label only in the first of several."""
    more = f" ({place + 1} of {count})" if count > 1 else ""
    head, body = parts
    lines = [
        "\\begin{table*}[p]" if count > 1 else "\\begin{table*}[t]",
        "\\centering\\footnotesize",
        f"\\caption{{{escape(title)}{more}.}}",
        *([f"\\label{{tab:{key}}}"] if place == 0 else []),
        "\\resizebox{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{{shape}}}",
        "\\toprule",
        *head,
        "\\midrule",
        *body,
        "\\bottomrule",
        "\\end{tabular}}",
    ]
    if notes:
        lines += ["", "\\medskip\\scriptsize\\raggedright", *(f"{escape(note)}\\par" for note in notes)]
    return "\n".join([*lines, "\\end{table*}", ""])


def _head(table: Table, columns: Sequence[Column]) -> list[str]:
    spans, rules, start = [], [], 2
    for group, inside in groupby(columns, key=lambda column: column.group):
        width = len(list(inside))
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
        return "--" + escape(symbols(estimate.marks))
    value = format_number(estimate.value)
    value = {1: f"\\textbf{{{value}}}", 2: f"\\underline{{{value}}}"}.get(estimate.rank, value)
    raised = escape(symbols(estimate.marks)) + ("{*}" if estimate.significant else "")
    return f"{value}\\rlap{{\\textsuperscript{{{raised}}}}}" if raised else value


def _interval(estimate: Estimate | None) -> str:
    if estimate is None or format_number(estimate.low) == MISSING or format_number(estimate.value) == MISSING:
        return ""
    return f"{{\\tiny {{[}}{format_number(estimate.low)}, {format_number(estimate.high)}{{]}}{escape(over_seeds(estimate))}}}"
