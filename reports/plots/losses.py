"""Training loss over steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.plots import style
from reports.plots.canvas import Plot, crowded, finish, label, legend_columns, row_styles, shorten
from reports.plots.style import SeriesStyle
from reports.record import CellResult
from reports.statistics.estimates import Analysis
from reports.statistics.resampling import Array
from reports.text import format_number, join_words

SMOOTHING = 20
"""Each point of a line is the mean over the last twentieth of the steps; the data beside the plot are not smoothed."""
PANELS_PER_LINE = 2
MAX_POINTS = 400
"""Points of a line; more are not visible and only enlarge the page."""


def losses(analysis: Analysis) -> Plot | None:
    """Plot one line a method, thin lines for its seeds; a panel for each method if there are many."""
    rows = [number for number, row in enumerate(analysis.rows) if any(cell.training for cell in row.cells)]
    if not rows:
        return None
    figure = _panels(analysis, rows) if crowded(analysis) else _single_panel(analysis, rows)
    data = [("method", "seed", "step", "loss")]
    texts = []
    for number in rows:
        name = label(analysis, number, 120)
        for position, cell in enumerate(analysis.rows[number].cells):
            steps = _steps(cell)
            data += [(name, str(cell.seed), str(int(step)), format_number(loss, 4)) for step, loss in steps]
            if steps and position == 0:
                texts.append(f"{name} from {format_number(steps[0][1])} to {format_number(steps[-1][1])}")
    alt = (
        f"Training loss over optimiser steps: {join_words(texts)}." if texts else "No finite training loss was logged."
    )
    caption = f"One line a method, thin lines for further seeds; running means over 1/{SMOOTHING} of the steps."
    if crowded(analysis):
        caption += " Grey: the methods of the other panels; colours are those of each panel alone."
    return finish("losses", "Training loss", alt, caption, tuple(data), figure)


def _single_panel(analysis: Analysis, rows: Sequence[int]) -> Figure:
    figure = style.new_figure(6.2, 3.2)
    axes = figure.add_subplot()
    for number in rows:
        _lines(axes, analysis, number, row_styles(analysis)[number])
    axes.set(xlabel="Optimiser step", ylabel="Loss, nats a token", ylim=(0, None))
    axes.yaxis.grid(visible=True)
    _legend(figure, axes)
    return figure


def _panels(analysis: Analysis, rows: Sequence[int]) -> Figure:
    """Draw a panel for each method; its variants differ in colour."""
    methods = list(dict.fromkeys(analysis.rows[number].first.method for number in rows))
    lines = -(-len(methods) // PANELS_PER_LINE)
    figure = style.new_figure(6.2, 1.2 + 1.35 * lines + 0.06 * len(rows))
    panels = figure.subplots(lines, PANELS_PER_LINE, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, method in zip(panels, methods, strict=False):
        mine = [number for number in rows if analysis.rows[number].first.method == method]
        for number in rows:
            if number not in mine:
                _lines(axes, analysis, number, None)
        for place, number in enumerate(mine):
            _lines(axes, analysis, number, style.series_style(place, place))
        axes.set(title=shorten(method), ylim=(0, None))
        axes.yaxis.grid(visible=True)
        _legend(axes, axes)
    for axes in panels[len(methods) :]:
        axes.set_visible(False)
    figure.supxlabel("Optimiser step", fontsize=9, color=style.MUTED)
    figure.supylabel("Loss, nats a token", fontsize=9, color=style.MUTED)
    return figure


def _lines(axes: Axes, analysis: Analysis, number: int, look: SeriesStyle | None) -> None:
    """Draw a row's seeds; without a style only the first one, in grey behind the others."""
    for position, cell in enumerate(analysis.rows[number].cells[: None if look else 1]):
        if not (steps := _steps(cell)):
            continue
        x, y = np.array(steps).T
        points = subsample(len(y), MAX_POINTS if look else MAX_POINTS // 4)
        smooth = _smooth(y, max(1, len(y) // SMOOTHING))[points]
        if look is None:
            axes.plot(x[points], smooth, color=style.RULE, linewidth=0.6, zorder=1)
        else:
            axes.plot(
                x[points], smooth, color=look.colour, linestyle=look.dash, linewidth=1.6 if position == 0 else 0.7,
                alpha=1.0 if position == 0 else 0.45, label=label(analysis, number) if position == 0 else None,
            )  # fmt: skip


def _legend(owner: Figure | Axes, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    if isinstance(owner, Figure):
        columns = legend_columns(owner, names, 0.75)
        owner.legend(
            handles, names, loc="outside upper left", ncols=columns, fontsize=8.5, handlelength=2.4, columnspacing=1.6
        )
    elif len(names) > 1:
        owner.legend(handles, names, loc="upper right", fontsize=6.5, handlelength=2.6, labelspacing=0.2)


def subsample(count: int, most: int) -> list[int]:
    """Choose at most ``most`` numbers from ``range(count)``, evenly spaced, including the first and the last."""
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]


def _steps(cell: CellResult) -> list[tuple[int, float]]:
    return [(one.step, one.loss) for one in cell.training if math.isfinite(one.loss)]


def _smooth(values: Array, width: int) -> Array:
    """Running mean over the last ``width`` values."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    counts = np.minimum(np.arange(1, len(values) + 1), width)
    places = np.arange(1, len(values) + 1)
    return np.asarray((sums[places] - sums[places - counts]) / counts)
