"""Scores over a swept setting, such as rank or learning rate."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes

from reports.plots import style
from reports.plots.canvas import Plot, error_bar, finish, legend, row_styles
from reports.statistics import summary
from reports.statistics.estimates import Analysis
from reports.tables.matched import SweepCurve, sweep_curves
from reports.text import format_number, sanitize

MEASURES = (summary.KA, summary.KR1, summary.AVG1)


def sweeps(analysis: Analysis) -> list[Plot]:
    """Draw one plot for each swept setting: a panel for each measure, a line for each method."""
    curves = sweep_curves(analysis)
    settings = dict.fromkeys(curve.setting for curve in curves)
    plots = [_sweep(analysis, name, [curve for curve in curves if curve.setting == name]) for name in settings]
    return [plot for plot in plots if plot is not None]


def _sweep(analysis: Analysis, setting: str, curves: list[SweepCurve]) -> Plot | None:
    measures = [
        name for name in MEASURES if any((row, name) in analysis.main for curve in curves for row in curve.rows)
    ]
    if not measures:
        return None
    figure = style.new_figure(3.1 * len(measures), 3.0)
    panels = figure.subplots(1, len(measures), squeeze=False)[0]
    data: list[tuple[str, ...]] = [("method", setting, "measure", "score", "low", "high")]
    for axes, measure in zip(panels, measures, strict=True):
        for curve in curves:
            data += _draw_curve(axes, analysis, curve, measure)
        _label_axes(axes, setting, measure, [value for curve in curves for value in curve.values])
    legend(figure, analysis, [row for curve in curves for row in curve.rows])
    name = sanitize(setting, 40)
    text = "; ".join(f"{method}, {name} {value}: {key} {score}" for method, value, key, score, *_ in data[1:])
    key = "sweep-" + "".join(sign if sign.isalnum() else "-" for sign in setting.lower())[:40]
    caption = "Dots are scores, bars their 95 % intervals."
    return finish(key, f"Scores over {name}", f"Lines over {name}. {text}.", caption, tuple(data), figure)


def _draw_curve(axes: Axes, analysis: Analysis, curve: SweepCurve, measure: str) -> list[tuple[str, ...]]:
    """Draw one line; returns the plotted records."""
    look = row_styles(analysis)[curve.rows[0]]
    points = [
        (value, one)
        for value, row in zip(curve.values, curve.rows, strict=True)
        if (one := analysis.main.get((row, measure))) is not None and math.isfinite(one.value)
    ]
    if points:
        bars = [np.zeros((2, 1)) if (bar := error_bar(one)) is None else bar for _, one in points]
        axes.errorbar(
            [value for value, _ in points], [one.value for _, one in points], yerr=np.concatenate(bars, axis=1),
            color=look.colour, marker=look.marker, linestyle=look.dash, markersize=5, linewidth=1.3, elinewidth=0.9,
            markeredgecolor="none",
        )  # fmt: skip
    return [
        (sanitize(curve.label), f"{value:g}", measure, *map(format_number, (one.value, one.low, one.high)))
        for value, one in points
    ]


def _label_axes(axes: Axes, setting: str, measure: str, values: list[float]) -> None:
    axes.set(xlabel=sanitize(setting, 40), title=measure)
    axes.yaxis.grid(visible=True)
    numbers = sorted(set(values))
    if numbers[0] > 0 and numbers[-1] / numbers[0] >= 8:
        axes.set_xscale("log")
    axes.set_xticks(numbers, [f"{number:g}" for number in numbers])
    axes.minorticks_off()
