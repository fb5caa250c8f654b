"""The plots of a report: each with a text alternative and the numbers behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports import style, summary
from reports.estimates import Analysis, Estimate, Slice
from reports.style import Look
from reports.text import fixed, listed, plain

MOST_TYPES = 20
"""Types drawn; the table has all of them."""


@dataclass(frozen=True)
class Plot:
    """A finished plot.

    Args:
        key: File name without its ending.
        title: Heading.
        alt: What it shows, in words, for those who cannot see it.
        data: Header and records behind it.
        svg: The picture.
        pdf: The same, for papers.
    """

    key: str
    title: str
    alt: str
    data: tuple[tuple[str, ...], ...]
    svg: bytes
    pdf: bytes


def looks(analysis: Analysis) -> tuple[Look, ...]:
    """How each row is drawn, in all plots alike."""
    found, methods = [], 0
    for row in analysis.rows:
        found.append(style.look(methods, row.is_baseline))
        methods += not row.is_baseline
    return tuple(found)


def plots(analysis: Analysis) -> tuple[Plot, ...]:
    """All plots for which the run has data."""
    makers: tuple[Callable[[Analysis], Plot | None], ...] = (tradeoff, dimensions, types, losses)
    with style.styled():
        return tuple(plot for make in makers if (plot := make(analysis)) is not None)


def tradeoff(analysis: Analysis) -> Plot | None:
    """Adaptation against retention, with 95 % intervals and one faint dot for each seed."""
    points = _having(analysis, summary.KA, summary.KR1)
    if not points:
        return None
    figure = style.new_figure(6.2, 4.3)
    axes = figure.add_subplot()
    drawn = looks(analysis)
    for number, (x, y) in points.items():
        look = drawn[number]
        axes.errorbar(
            x.value, y.value, xerr=_reach(x), yerr=_reach(y), fmt=look.marker, color=look.colour, markersize=7.5,
            elinewidth=1.1, capsize=0, zorder=3, markeredgecolor="none",
        )  # fmt: skip
        if len(x.seeds) == len(y.seeds) > 1:
            axes.plot(x.seeds, y.seeds, look.marker, color=look.colour, markersize=3, alpha=0.45, linestyle="none")
    _frame_tradeoff(axes, list(points.values()))
    left, right = axes.get_xlim()
    for number, (x, y) in points.items():
        late = x.value > left + 0.62 * (right - left)
        axes.annotate(
            plain(analysis.rows[number].label, 28), (x.value, y.value), xytext=(-8 if late else 8, 7),
            textcoords="offset points", ha="right" if late else "left", fontsize=9, color=style.INK, zorder=4,
        )  # fmt: skip
    said = [
        f"{plain(analysis.rows[number].label)}: adaptation {fixed(x.value)}, retention {fixed(y.value)}"
        for number, (x, y) in points.items()
    ]
    head = ("method", "K.A", "K.A low", "K.A high", "K.R", "K.R low", "K.R high")
    data = [
        (plain(analysis.rows[number].label), *map(fixed, (x.value, x.low, x.high, y.value, y.low, y.high)))
        for number, (x, y) in points.items()
    ]
    alt = "Scatter plot of adaptation (K.A) against retention (K.R, paper v1). " + "; ".join(said) + "."
    return _plot("tradeoff", "What was learned against what was kept", alt, (head, *data), figure)


def _frame_tradeoff(axes: Axes, pairs: Sequence[tuple[Estimate, Estimate]]) -> None:
    xs = [end for x, _ in pairs for end in (x.value, x.low, x.high) if math.isfinite(end)]
    ys = [end for _, y in pairs for end in (y.value, y.low, y.high) if math.isfinite(end)]
    pad = 0.08 * max(max(xs) - min(xs), max(ys) - min(ys), 8)
    left, right = max(-1.0, min(xs) - pad), min(101.0, max(xs) + 1.2 * pad)
    bottom, top = max(-1.0, min(ys) - pad), min(101.0, max(ys) + 1.4 * pad)
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel="Adaptation, K.A  →", ylabel="Retention, K.R (v1)  →")
    step = 10
    for average in range(0, 101, step):
        axes.plot([2 * average - top, 2 * average - bottom], [top, bottom], color=style.RULE, linewidth=0.6, zorder=0)
        if left + 1 < 2 * average - bottom < right - 1:
            axes.annotate(
                f"Avg {average}", (2 * average - bottom, bottom), xytext=(-2, 4), textcoords="offset points",
                fontsize=7, color=style.MUTED, ha="right",
            )  # fmt: skip
    axes.set(xlim=(left, right), ylim=(bottom, top))


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
    _legend(figure, analysis)
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
    head = ("method", "dimension", "score", "low", "high")
    return _plot("dimensions", "Retention by dimension", alt, (head, *data), figure)


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
                one.value, position + offset, xerr=_reach(one), fmt=drawn[number].marker, color=drawn[number].colour,
                markersize=5, elinewidth=0.9, markeredgecolor="none", zorder=3,
            )  # fmt: skip
    axes.xaxis.grid(visible=True)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def types(analysis: Analysis) -> Plot | None:
    """Bars of K.A by fine-grained type, the largest types first, groups side by side (the paper's figure 5)."""
    chosen = sorted((part for part in analysis.slices if part.type), key=lambda part: -part.n)[:MOST_TYPES]
    groups = list(dict.fromkeys(part.group for part in analysis.slices))
    columns = [[part for part in analysis.slices if part in chosen and part.group == group] for group in groups]
    columns = [column for column in columns if column]
    if not columns:
        return None
    tallest = max(len(column) for column in columns)
    bar = 0.8 / max(len(analysis.rows), 1)
    figure = style.new_figure(6.1 * len(columns), 1.0 + tallest * max(0.34, 0.115 * len(analysis.rows)))
    every = figure.subplots(1, len(columns), sharex=True, squeeze=False)[0]
    data: list[tuple[str, ...]] = [("type", "group", "n", "method", "CEM", "F1", "K.A")]
    for axes, column in zip(every, columns, strict=True):
        for number, row in enumerate(analysis.rows):
            colour = looks(analysis)[number].colour
            for position, part in enumerate(column):
                value = _type_value(analysis, number, part)
                if value is None:
                    continue
                axes.barh(
                    position + (number - (len(analysis.rows) - 1) / 2) * bar, sum(value) / 2, bar * 0.86, color=colour
                )
                texts = map(fixed, (*value, sum(value) / 2))
                data.append((plain(part.type), plain(part.group), str(part.n), plain(row.label), *texts))
        axes.set_yticks(range(len(column)), [f"{plain(p.type, 24)} · {p.n}" for p in column], color=style.INK)
        axes.set(ylim=(tallest - 0.5, -0.6), xlabel="K.A", title=plain(column[0].group).capitalize() or "All")
        axes.xaxis.grid(visible=True)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    _legend(figure, analysis)
    shown = sum(map(len, columns))
    best = _best_by_type(analysis, [part for column in columns for part in column])
    more = "" if shown == sum(bool(p.type) for p in analysis.slices) else " The table lists all types."
    alt = f"Bars of adaptation (K.A) for the {shown} largest types. {best}{more}"
    return _plot("types", "Adaptation by fine-grained type", alt, tuple(data), figure)


def _type_value(analysis: Analysis, number: int, part: Slice) -> tuple[float, float] | None:
    found = [analysis.types.get((number, f"{part.key}/{metric}")) for metric in (summary.CEM, summary.F1)]
    cem, f1 = found
    return None if cem is None or f1 is None else (cem.value, f1.value)


def _best_by_type(analysis: Analysis, parts: Sequence[Slice]) -> str:
    said = []
    for part in parts:
        values = {n: sum(v) / 2 for n in range(len(analysis.rows)) if (v := _type_value(analysis, n, part))}
        if values:
            best = max(values, key=lambda number: values[number])
            said.append(f"{plain(part.type)}: highest {plain(analysis.rows[best].label)} with {fixed(values[best])}")
    return "; ".join(said) + "."


def losses(analysis: Analysis) -> Plot | None:
    """Training loss over steps, one line a method, thin lines for its seeds."""
    rows = [(n, row) for n, row in enumerate(analysis.rows) if any(cell.training for cell in row.cells)]
    if not rows:
        return None
    figure = style.new_figure(6.2, 3.2)
    axes = figure.add_subplot()
    data = [("method", "seed", "step", "loss")]
    said = []
    for number, row in rows:
        look = looks(analysis)[number]
        for position, cell in enumerate(row.cells):
            steps = [(one.step, one.loss) for one in cell.training if math.isfinite(one.loss)]
            if not steps:
                continue
            x, y = np.array(steps).T
            axes.plot(
                x, y, color=look.colour, linestyle=look.dash, linewidth=1.6 if position == 0 else 0.7,
                alpha=1.0 if position == 0 else 0.45, label=plain(row.label, 28) if position == 0 else None,
            )  # fmt: skip
            data += [(plain(row.label), str(cell.seed), str(int(step)), fixed(loss, 4)) for step, loss in steps]
            if position == 0:
                said.append(f"{plain(row.label)} from {fixed(float(y[0]))} to {fixed(float(y[-1]))}")
    axes.set(xlabel="Optimiser step", ylabel="Loss, nats a token", ylim=(0, None))
    axes.yaxis.grid(visible=True)
    figure.legend(loc="outside upper left", ncols=4, fontsize=8.5, handlelength=2.4, columnspacing=1.6)
    alt = f"Training loss over optimiser steps: {listed(said)}." if said else "No finite training loss was logged."
    return _plot("losses", "Training loss", alt, tuple(data), figure)


def _having(analysis: Analysis, *measures: str) -> dict[int, tuple[Estimate, Estimate]]:
    first, second = measures
    found = {}
    for number in range(len(analysis.rows)):
        x, y = analysis.main.get((number, first)), analysis.main.get((number, second))
        if x is not None and y is not None and math.isfinite(x.value) and math.isfinite(y.value):
            found[number] = (x, y)
    return found


def _reach(one: Estimate) -> np.ndarray[tuple[int, int], np.dtype[np.float64]] | None:
    if not (math.isfinite(one.low) and math.isfinite(one.high)):
        return None
    return np.array([[max(0.0, one.value - one.low)], [max(0.0, one.high - one.value)]])


def _legend(figure: Figure, analysis: Analysis) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle="none", markersize=6, markeredgecolor="none")
        for look in looks(analysis)
    ]
    names = [plain(row.label, 28) for row in analysis.rows]
    columns = 5 if sum(map(len, names)) < 60 else 3
    figure.legend(
        handles, names, loc="outside upper left", ncols=columns, fontsize=8.5, columnspacing=1.4, handletextpad=0.3
    )


def _plot(key: str, title: str, alt: str, data: tuple[tuple[str, ...], ...], figure: Figure) -> Plot:
    svg = style.save(figure, "svg")
    figure.set_layout_engine("none")  # saving has laid it out; once is enough
    return Plot(key, title, alt, data, svg, style.save(figure, "pdf"))
