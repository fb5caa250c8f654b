"""Scores over a swept setting, such as rank or learning rate: the summaries, and every benchmark on its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from reports.plots import style
from reports.plots.canvas import Plot, error_bar, finish, label, legend, row_styles
from reports.statistics import summary
from reports.statistics.estimates import Analysis, Estimate, Key
from reports.tables.matched import SweepCurve, sweep_curves
from reports.tables.sweep_scores import bases, benchmark_curves, benchmark_names, identifier, swept_settings
from reports.text import format_number, sanitize

MEASURES = (summary.KA, summary.KR1, summary.AVG1)
PANELS = 4
"""Panels in a line."""
Records = list[tuple[str, ...]]


def sweeps(analysis: Analysis) -> list[Plot]:
    """Draw two plots for each swept setting, of summaries and of benchmarks: a panel each, a line for each method."""
    summaries, benchmarks = swept_settings(sweep_curves(analysis)), swept_settings(benchmark_curves(analysis))
    plots = []
    for setting in dict.fromkeys([*summaries, *benchmarks]):
        curves = summaries.get(setting, ())
        titles = {name: name for name in MEASURES if _any_scored(analysis.main, curves, name)}
        if titles:
            plots.append(_sweep(analysis, setting, curves, analysis.main, titles))
        curves = benchmarks.get(setting, ())
        if curves:
            titles = benchmark_names(analysis, curves)
            plots.append(_sweep(analysis, setting, curves, analysis.benchmarks, titles, " by benchmark"))
    return plots


def _any_scored(estimates: Mapping[Key, Estimate], curves: Sequence[SweepCurve], measure: str) -> bool:
    return any((row, measure) in estimates for curve in curves for row in curve.rows)


def _sweep(
    analysis: Analysis,
    setting: str,
    curves: Sequence[SweepCurve],
    estimates: Mapping[Key, Estimate],
    titles: Mapping[str, str],
    by: str = "",
) -> Plot:
    """Draw a panel for each measure, by its key in ``estimates``; by benchmark, with a line at the untouched base."""
    width, height = min(PANELS, len(titles)), -(-len(titles) // PANELS)
    figure = style.new_figure(max(6.2, 3.1 * width), 0.4 + 2.6 * height)
    panels = figure.subplots(height, width, squeeze=False).flatten()
    data: Records = [("method", setting, "measure", "score", "low", "high")]
    for axes, (measure, title) in zip(panels, titles.items(), strict=False):
        for number in bases(analysis, curves) if by else ():
            data += _draw_base(axes, analysis, number, measure, title)
        for curve in curves:
            data += _draw_curve(axes, analysis, curve, estimates, (measure, title))
        _label_axes(axes, setting, title, [value for curve in curves for value in curve.values])
    for axes in panels[len(titles) :]:
        axes.set_axis_off()
    legend(figure, analysis, [row for curve in curves for row in curve.rows])
    name = sanitize(setting, 40)
    text = "; ".join(
        f"{method}, {name} {value}: {key} {score}" if value else f"{method}: {key} {score}"
        for method, value, key, score, *_ in data[1:]
    )
    caption = "Dots are scores, bars their 95 % intervals." + (" The dotted line is the untouched base." if by else "")
    key = f"sweep-{identifier(setting)}{'-benchmarks' if by else ''}"
    return finish(key, f"Scores{by} over {name}", f"Lines over {name}. {text}.", caption, tuple(data), figure)


def _draw_base(axes: Axes, analysis: Analysis, number: int, measure: str, title: str) -> Records:
    """Draw the score of the untouched base across the panel; returns the plotted record."""
    one = analysis.benchmarks.get((number, measure))
    if one is None or not math.isfinite(one.value):
        return []
    look = style.UNTOUCHED
    axes.axhline(one.value, color=look.colour, linestyle=look.dash, linewidth=1.3, zorder=1)
    return [(label(analysis, number), "", title, *map(format_number, (one.value, one.low, one.high)))]


def _draw_curve(
    axes: Axes, analysis: Analysis, curve: SweepCurve, estimates: Mapping[Key, Estimate], measure: tuple[str, str]
) -> Records:
    """Draw one line, of a measure given by key and title; returns the plotted records."""
    key, title = measure
    look = row_styles(analysis)[curve.rows[0]]
    points = [
        (value, one)
        for value, row in zip(curve.values, curve.rows, strict=True)
        if (one := estimates.get((row, key))) is not None and math.isfinite(one.value)
    ]
    if points:
        bars = [np.zeros((2, 1)) if (bar := error_bar(one)) is None else bar for _, one in points]
        axes.errorbar(
            [value for value, _ in points], [one.value for _, one in points], yerr=np.concatenate(bars, axis=1),
            color=look.colour, marker=look.marker, linestyle=look.dash, markersize=5, linewidth=1.3, elinewidth=0.9,
            markeredgecolor="none",
        )  # fmt: skip
    return [
        (sanitize(curve.label), f"{value:g}", title, *map(format_number, (one.value, one.low, one.high)))
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
