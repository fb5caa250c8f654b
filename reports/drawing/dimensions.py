"""Retention by dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from reports import style, summary
from reports.drawing.canvas import Plot, finish, legend, looks, reach
from reports.estimates import Analysis, Estimate
from reports.text import fixed, plain


def dimensions(analysis: Analysis) -> Plot | None:
    """Every method's score on each dimension of retention, as dots on a line."""
    names = [one.key for one in summary.MAIN if one.group.startswith("Retention")]
    names = [name for name in names if any((number, name) in analysis.main for number in range(len(analysis.rows)))]
    if not names:
        return None
    figure = style.new_figure(6.2, 0.9 + 0.52 * len(names))
    axes = figure.add_subplot()
    _dots(axes, analysis, [[analysis.main.get((n, name)) for name in names] for n in range(len(analysis.rows))])
    helps = {one.key: one.help.split(":")[0] for one in summary.MAIN}
    axes.set_yticks(range(len(names)), [f"{name}" for name in names], color=style.INK)
    axes.set(ylim=(len(names) - 0.45, -0.55), xlabel="Score, 0–100")
    legend(figure, analysis)
    said = [
        f"{name} ({helps[name]}): "
        + ", ".join(
            f"{plain(row.label)} {fixed(analysis.main[number, name].value)}"
            for number, row in enumerate(analysis.rows)
            if (number, name) in analysis.main
        )
        for name in names
    ]
    data = [
        (plain(row.label), name, *map(fixed, (one.value, one.low, one.high)))
        for name in names
        for number, row in enumerate(analysis.rows)
        if (one := analysis.main.get((number, name)))
    ]
    alt = "Dot plot of retention by dimension. " + ". ".join(said) + "."
    caption = "Dots are scores, bars their 95 % intervals."
    head = ("method", "dimension", "score", "low", "high")
    return finish("dimensions", "Retention by dimension", alt, caption, (head, *data), figure)


def _dots(axes: Axes, analysis: Analysis, rows: Sequence[Sequence[Estimate | None]]) -> None:
    """One line of dots for each position; methods are set apart a little so that intervals stay readable."""
    drawn = looks(analysis)
    count = max(len(rows), 1)
    for number, estimates in enumerate(rows):
        offset = (number - (count - 1) / 2) * min(0.13, 0.7 / count)
        for position, one in enumerate(estimates):
            if one is None or not math.isfinite(one.value):
                continue
            axes.errorbar(
                one.value, position + offset, xerr=reach(one), fmt=drawn[number].marker, color=drawn[number].colour,
                markersize=5, elinewidth=0.9, markeredgecolor="none", zorder=3,
            )  # fmt: skip
    axes.xaxis.grid(visible=True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
