"""Training loss over steps."""

from __future__ import annotations

import math

import numpy as np

from reports import style
from reports.drawing.canvas import Plot, finish, label, looks
from reports.estimates import Analysis
from reports.statistics import Array
from reports.text import fixed, listed
from reports.thinning import thinned

SMOOTHED = 50
"""Each point of a line is the mean over the last fiftieth of the steps; the data beside the plot are not smoothed."""

DRAWN = 400
"""Points of a line; more cannot be told apart, and swell the page."""


def losses(analysis: Analysis) -> Plot | None:
    """One line a method, thin lines for its seeds."""
    rows = [(n, row) for n, row in enumerate(analysis.rows) if any(cell.training for cell in row.cells)]
    if not rows:
        return None
    figure = style.new_figure(6.2, 3.2)
    axes = figure.add_subplot()
    data = [("method", "seed", "step", "loss")]
    said = []
    drawn = looks(analysis)
    for number, row in rows:
        look = drawn[number]
        for position, cell in enumerate(row.cells):
            steps = [(one.step, one.loss) for one in cell.training if math.isfinite(one.loss)]
            if not steps:
                continue
            x, y = np.array(steps).T
            width = max(1, len(y) // SMOOTHED)
            few = thinned(len(y), DRAWN)
            axes.plot(
                x[few], _smooth(y, width)[few], color=look.colour, linestyle=look.dash,
                linewidth=1.6 if position == 0 else 0.7, alpha=1.0 if position == 0 else 0.45,
                label=label(analysis, number) if position == 0 else None,
            )  # fmt: skip
            name = label(analysis, number, 120)
            data += [(name, str(cell.seed), str(int(step)), fixed(loss, 4)) for step, loss in steps]
            if position == 0:
                said.append(f"{name} from {fixed(float(y[0]))} to {fixed(float(y[-1]))}")
    axes.set(xlabel="Optimiser step", ylabel="Loss, nats a token", ylim=(0, None))
    axes.yaxis.grid(visible=True)
    figure.legend(loc="outside upper left", ncols=4, fontsize=8.5, handlelength=2.4, columnspacing=1.6)
    alt = f"Training loss over optimiser steps: {listed(said)}." if said else "No finite training loss was logged."
    return finish(
        "losses",
        "Training loss",
        alt,
        f"One line a method, thin lines for further seeds; running means over 1/{SMOOTHED} of the steps.",
        tuple(data),
        figure,
    )


def _smooth(values: Array, width: int) -> Array:
    """The mean over the last ``width`` values."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    counts = np.minimum(np.arange(1, len(values) + 1), width)
    places = np.arange(1, len(values) + 1)
    return np.asarray((sums[places] - sums[places - counts]) / counts)
