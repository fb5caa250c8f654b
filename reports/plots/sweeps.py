"""A setting against the scores it leads to: rank, learning rate, or whatever was swept."""

from __future__ import annotations

import math

from matplotlib.axes import Axes

from reports.plots import style
from reports.plots.canvas import Plot, finish, legend, looks
from reports.statistics import summary
from reports.statistics.estimates import Analysis
from reports.tables.matched import SweepCurve, curves
from reports.text import format_number, sanitize

MEASURES = (summary.KA, summary.KR1, summary.AVG1)


def sweeps(analysis: Analysis) -> list[Plot]:
    """One plot for each setting that was swept: a panel for each measure, a line for each method."""
    found = curves(analysis)
    settings = list(dict.fromkeys(curve.setting for curve in found))
    made = [_sweep(analysis, name, [curve for curve in found if curve.setting == name]) for name in settings]
    return [plot for plot in made if plot is not None]


def _sweep(analysis: Analysis, setting: str, found: list[SweepCurve]) -> Plot | None:
    measures = [name for name in MEASURES if any((row, name) in analysis.main for curve in found for row in curve.rows)]
    if not measures:
        return None
    figure = style.new_figure(3.1 * len(measures), 3.0)
    panels = figure.subplots(1, len(measures), squeeze=False)[0]
    data: list[tuple[str, ...]] = [("method", setting, "measure", "score", "low", "high")]
    for axes, measure in zip(panels, measures, strict=True):
        for curve in found:
            data += _line(axes, analysis, curve, measure)
        _axis(axes, setting, measure, [value for curve in found for value in curve.values])
    legend(figure, analysis, [row for curve in found for row in curve.rows])
    name = sanitize(setting, 40)
    said = "; ".join(f"{one[0]}, {name} {one[1]}: {one[2]} {one[3]}" for one in data[1:])
    key = "sweep-" + "".join(sign if sign.isalnum() else "-" for sign in setting.lower())[:40]
    caption = "Dots are scores, bars their 95 % intervals."
    return finish(key, f"Scores over {name}", f"Lines over {name}. {said}.", caption, tuple(data), figure)


def _line(axes: Axes, analysis: Analysis, curve: SweepCurve, measure: str) -> list[tuple[str, ...]]:
    look = looks(analysis)[curve.rows[0]]
    xs, ys, lows, highs, records = [], [], [], [], []
    for value, row in zip(curve.values, curve.rows, strict=True):
        one = analysis.main.get((row, measure))
        if one is None or not math.isfinite(one.value):
            continue
        xs.append(value)
        ys.append(one.value)
        lows.append(max(0.0, one.value - one.low) if math.isfinite(one.low) else 0.0)
        highs.append(max(0.0, one.high - one.value) if math.isfinite(one.high) else 0.0)
        records.append(
            (sanitize(curve.label), f"{value:g}", measure, *map(format_number, (one.value, one.low, one.high)))
        )
    if xs:
        axes.errorbar(
            xs, ys, yerr=[lows, highs], color=look.colour, marker=look.marker, linestyle=look.dash, markersize=5,
            linewidth=1.3, elinewidth=0.9, markeredgecolor="none",
        )  # fmt: skip
    return records


def _axis(axes: Axes, setting: str, measure: str, values: list[float]) -> None:
    axes.set(xlabel=sanitize(setting, 40), title=measure)
    axes.yaxis.grid(visible=True)
    numbers = sorted(set(values))
    if numbers[0] > 0 and numbers[-1] / numbers[0] >= 8:
        axes.set_xscale("log")
    axes.set_xticks(numbers, [f"{number:g}" for number in numbers])
    axes.minorticks_off()
