"""Scores against cost: trained parameters, memory and time."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from matplotlib.ticker import LogLocator

from reports.plots import style
from reports.plots.canvas import Plot, error_bar, finish, label, legend, row_styles, rows_with
from reports.record import Cost
from reports.statistics import summary
from reports.statistics.estimates import Analysis
from reports.statistics.rows import ReportRow
from reports.text import format_number

COSTS: tuple[tuple[str, Callable[[Cost], float]], ...] = (
    ("Trained parameters, millions", lambda cost: cost.trainable_parameters / 1e6),
    ("Peak memory, GiB", lambda cost: cost.peak_memory_bytes / 2**30),
    ("Training time, minutes", lambda cost: cost.training_seconds / 60),
)


def costs(analysis: Analysis) -> Plot | None:
    """Plot Avg over each cost; adaptation or retention alone if a run has no Avg."""
    measure = next((key for key in (summary.AVG1, summary.KA, summary.KR1) if rows_with(analysis, key)), None)
    if measure is None:
        return None
    trained = COSTS[0][1]
    points = {
        number: one for number, (one,) in rows_with(analysis, measure).items() if _mean(analysis.rows[number], trained)
    }
    known = [(name, cost) for name, cost in COSTS if any(_mean(analysis.rows[number], cost) for number in points)]
    if not points or not known:
        return None
    figure = style.new_figure(3.3 * len(known), 3.2)
    styles = row_styles(analysis)
    for axes, (name, cost) in zip(figure.subplots(1, len(known), sharey=True, squeeze=False)[0], known, strict=True):
        places = {number: _mean(analysis.rows[number], cost) for number in points}
        for number, one in points.items():
            look = styles[number]
            axes.errorbar(
                places[number], one.value, yerr=error_bar(one), fmt=look.marker, color=look.colour, markersize=6,
                elinewidth=0.9, markeredgecolor="none",
            )  # fmt: skip
        least, most = min(places.values()), max(places.values())
        if least > 0 and most / least > 10:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.minorticks_off()
        else:
            axes.set_xlim(0, 1.25 * most or 1)
        axes.set(xlabel=name)
        axes.yaxis.grid(visible=True)
    legend(figure, analysis, points)
    figure.axes[0].set_ylabel(measure)
    head = ("method", measure, "low", "high", *(name for name, _ in known))
    data = [
        (
            label(analysis, number, 120),
            *map(format_number, (one.value, one.low, one.high)),
            *(format_number(_mean(analysis.rows[number], cost), 3) for _, cost in known),
        )
        for number, one in points.items()
    ]
    texts = [
        f"{name}: {measure} {value}, "
        + ", ".join(f"{title} {field}" for (title, _), field in zip(known, costs_, strict=True))
        for name, value, _, _, *costs_ in data
    ]
    alt = f"Scatter plots of {measure} against cost for {len(data)} methods. {'; '.join(texts)}."
    caption = "Means over seeds. Up and to the left is better; times are those of the machine that trained."
    return finish("costs", "What it costs", alt, caption, (head, *data), figure)


def _mean(row: ReportRow, cost: Callable[[Cost], float]) -> float:
    return fmean(cost(cell.cost) for cell in row.usable) if row.usable else 0.0
