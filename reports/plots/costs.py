"""What a method costs against what it reaches: trained parameters, memory and time."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from matplotlib.ticker import LogLocator

from reports.plots import style
from reports.plots.canvas import Plot, finish, having, label, legend, looks, reach
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
    """The mean of both scores over each cost; retention or adaptation alone where a run has no mean of both."""
    measure = next((one for one in (summary.AVG1, summary.KA, summary.KR1) if having(analysis, one)), None)
    if measure is None:
        return None
    points = {
        number: one for number, (one,) in having(analysis, measure).items() if _mean(analysis.rows[number], COSTS[0][1])
    }
    known = [(name, cost) for name, cost in COSTS if any(_mean(analysis.rows[number], cost) for number in points)]
    if not points or not known:
        return None
    figure = style.new_figure(3.3 * len(known), 3.2)
    drawn = looks(analysis)
    for axes, (name, cost) in zip(figure.subplots(1, len(known), sharey=True, squeeze=False)[0], known, strict=True):
        places = {number: _mean(analysis.rows[number], cost) for number in points}
        for number, one in points.items():
            look = drawn[number]
            axes.errorbar(
                places[number], one.value, yerr=reach(one), fmt=look.marker, color=look.colour, markersize=6,
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
    said = "; ".join(
        ", ".join(
            f"{title} {field}" for title, field in zip(head[1:2] + head[4:], record[1:2] + record[4:], strict=True)
        )
        for record in data
    )
    names = [record[0] for record in data]
    alt = (
        f"Scatter plots of {measure} against cost for {len(names)} methods. "
        + "; ".join(f"{name}: {part}" for name, part in zip(names, said.split("; "), strict=True))
        + "."
    )
    caption = "Means over seeds. Up and to the left is better; times are those of the machine that trained."
    return finish("costs", "What it costs", alt, caption, (head, *data), figure)


def _mean(row: ReportRow, cost: Callable[[Cost], float]) -> float:
    return fmean(cost(cell.cost) for cell in row.usable) if row.usable else 0.0
