"""Retention by dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import aggregate
from reports.plots import style
from reports.plots.canvas import Plot, crowded, error_bar, finish, label, legend, row_styles
from reports.plots.style import SeriesStyle
from reports.statistics import summary
from reports.statistics.estimates import Analysis, Estimate
from reports.text import format_number, sanitize


def dimensions(analysis: Analysis) -> Plot | None:
    """Plot every method's score on each dimension of retention, as dots on a line."""
    names = [measure.key for measure in summary.MAIN if measure.key in aggregate.DIMENSIONS]
    names = [name for name in names if any((number, name) in analysis.main for number in range(len(analysis.rows)))]
    if not names:
        return None
    figure = _panels(analysis, names) if crowded(analysis) else _single_panel(analysis, names)
    meanings = {measure.key: measure.help.split(":")[0] for measure in summary.MAIN}
    texts = [
        f"{name} ({meanings[name]}): "
        + ", ".join(
            f"{sanitize(row.label)} {format_number(analysis.main[number, name].value)}"
            for number, row in enumerate(analysis.rows)
            if (number, name) in analysis.main
        )
        for name in names
    ]
    data = [
        (sanitize(row.label), name, *map(format_number, (one.value, one.low, one.high)))
        for name in names
        for number, row in enumerate(analysis.rows)
        if (one := analysis.main.get((number, name)))
    ]
    alt = "Dot plot of retention by dimension. " + ". ".join(texts) + "."
    caption = "Dots are scores, bars their 95 % intervals"
    caption += ", dotted lines the untouched base." if crowded(analysis) else "."
    head = ("method", "dimension", "score", "low", "high")
    return finish("dimensions", "Retention by dimension", alt, caption, (head, *data), figure)


def _single_panel(analysis: Analysis, names: Sequence[str]) -> Figure:
    """All methods in one panel, a line for each dimension."""
    figure = style.new_figure(6.2, 0.9 + 0.52 * len(names))
    axes = figure.add_subplot()
    _dots(axes, analysis, [[analysis.main.get((n, name)) for name in names] for n in range(len(analysis.rows))])
    axes.set_yticks(range(len(names)), names, color=style.INK)
    axes.set(ylim=(len(names) - 0.45, -0.55), xlabel="Score, 0–100")
    legend(figure, analysis)
    return figure


def _panels(analysis: Analysis, names: Sequence[str]) -> Figure:
    """A panel for each dimension, a line for each method."""
    count = len(analysis.rows)
    figure = style.new_figure(12.4, 0.8 + 0.21 * count)
    styles = row_styles(analysis)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for number in range(count):
            one = analysis.main.get((number, name))
            if one is not None and math.isfinite(one.value):
                _dot(axes, one, number, styles[number])
                if analysis.rows[number].is_baseline:
                    axes.axvline(
                        one.value, color=style.BASELINE, linewidth=0.8, linestyle=styles[number].dash, zorder=1
                    )
        _remove_left_spine(axes)
        axes.set(title=name)
    panels[0].set_yticks(range(count), [label(analysis, number) for number in range(count)], color=style.INK)
    panels[0].set_ylim(count - 0.4, -0.6)
    figure.supxlabel("Score, 0–100", fontsize=9, color=style.MUTED)
    return figure


def _dots(axes: Axes, analysis: Analysis, rows: Sequence[Sequence[Estimate | None]]) -> None:
    """Draw one line of dots for each position; methods are offset a little so that intervals stay readable."""
    styles = row_styles(analysis)
    count = max(len(rows), 1)
    for number, estimates in enumerate(rows):
        offset = (number - (count - 1) / 2) * min(0.13, 0.7 / count)
        for position, one in enumerate(estimates):
            if one is None or not math.isfinite(one.value):
                continue
            _dot(axes, one, position + offset, styles[number])
    _remove_left_spine(axes)


def _dot(axes: Axes, one: Estimate, position: float, look: SeriesStyle) -> None:
    axes.errorbar(
        one.value, position, xerr=error_bar(one), fmt=look.marker, color=look.colour, markersize=5, elinewidth=0.9,
        markeredgecolor="none", zorder=3,
    )  # fmt: skip


def _remove_left_spine(axes: Axes) -> None:
    axes.xaxis.grid(visible=True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
