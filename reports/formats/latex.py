r"""Tables as LaTeX with booktabs, to be \input into a paper."""

from __future__ import annotations

from itertools import groupby

from reports.estimates import Estimate
from reports.tables import Table
from reports.text import MISSING, fixed, symbols

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
    "…": r"\dots{}",
}


def escape(text: str) -> str:
    """Text that LaTeX prints and never runs."""
    return "".join(_SPECIAL.get(sign, sign) for sign in text)


def render(table: Table) -> str:
    """A ``table*`` float; needs the packages booktabs, graphicx and textcomp."""
    lines = [
        "% Needs \\usepackage{booktabs,graphicx,textcomp}.",
        "\\begin{table*}[t]",
        "\\centering",
        f"\\caption{{{escape(table.title)}.}}",
        f"\\label{{tab:{table.key}}}",
        "\\resizebox{\\textwidth}{!}{%",
        f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        "\\toprule",
        *_head(table),
        "\\midrule",
    ]
    for line in table.lines:
        if line.state == "group" and line is not table.lines[0]:
            lines.append("\\midrule")
        label = escape(line.label) + (f" ({escape(line.state)})" if line.state and line.state != "group" else "")
        estimates = [line.cells.get(column.key) for column in table.columns]
        lines.append(" & ".join([label, *map(_value, estimates)]) + r" \\")
        lines.append(" & ".join(["", *map(_interval, estimates)]) + r" \\")
    lines += ["\\bottomrule", "\\end{tabular}}", "", "\\medskip\\footnotesize\\raggedright"]
    lines += [f"{escape(note)}\\par" for note in table.notes]
    return "\n".join([*lines, "\\end{table*}", ""])


def _head(table: Table) -> list[str]:
    spans, rules, start = [], [], 2
    for group, columns in groupby(table.columns, key=lambda column: column.group):
        width = len(list(columns))
        spans.append(f"\\multicolumn{{{width}}}{{c}}{{{escape(group)}}}")
        rules.append(f"\\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    titles = [escape(column.title) for column in table.columns]
    counts = ["" if (n := table.n(column)) is None else f"{{\\tiny $n={n}$}}" for column in table.columns]
    head = [" & ".join(["", *spans]) + r" \\", " ".join(rules)] if any(c.group for c in table.columns) else []
    head.append(" & ".join([escape(table.heading), *titles]) + r" \\")
    return [*head, " & ".join(["", *counts]) + r" \\"] if any(counts) else head


def _value(estimate: Estimate | None) -> str:
    if estimate is None or fixed(estimate.value) == MISSING:
        return "--"
    value = fixed(estimate.value)
    value = {1: f"\\textbf{{{value}}}", 2: f"\\underline{{{value}}}"}.get(estimate.rank, value)
    raised = escape(symbols(estimate.marks)) + ("{*}" if estimate.significant else "")
    return f"{value}\\rlap{{\\textsuperscript{{{raised}}}}}" if raised else value


def _interval(estimate: Estimate | None) -> str:
    if estimate is None or fixed(estimate.low) == MISSING or fixed(estimate.value) == MISSING:
        return ""
    return f"{{\\tiny {{[}}{fixed(estimate.low)}, {fixed(estimate.high)}{{]}}}}"
