"""What all plots share: the style of each row, legends, error bars, and the finished plot."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.plots import style
from reports.plots.style import SeriesStyle
from reports.statistics import summary
from reports.statistics.estimates import Analysis, Estimate
from reports.text import LONGEST_LABEL, sanitize

Records = tuple[tuple[str, ...], ...]
LABEL = 32
"""Longest name in a legend, in characters."""
MAX_ROWS = 8
"""Rows in one panel before it becomes unreadable."""


@dataclass(frozen=True)
class Plot:
    """A finished plot.

    Args:
        key: File name without its extension.
        title: Heading.
        alt: Text alternative.
        caption: How to read it, in one sentence.
        data: Header and records of the plotted numbers.
        svg: The drawing.
        pdf: The same, for papers.
    """

    key: str
    title: str
    alt: str
    caption: str
    data: Records
    svg: bytes
    pdf: bytes

    def _repr_svg_(self) -> str:
        """How a notebook shows it."""
        return self.svg.decode()


def family(analysis: Analysis, number: int) -> tuple[str, str]:
    """Return a key that all points of a sweep share; other rows have a key of their own."""
    row = analysis.rows[number]
    return row.first.model, row.first.curve or row.key


def row_styles(analysis: Analysis) -> tuple[SeriesStyle, ...]:
    """Choose how each row is drawn, the same in all plots; the points of one sweep share a style.

    Each gets its own colour while there are enough; beyond that each method has a colour, each variant a marker.
    """
    families: dict[tuple[str, str], str] = {}
    for number, row in enumerate(analysis.rows):
        if not row.is_baseline:
            families.setdefault(family(analysis, number), row.first.method)
    by_method = len(families) > len(style.COLOURS)
    methods = list(dict.fromkeys(families.values()))
    styles: dict[tuple[str, str], SeriesStyle] = {}
    for place, (key, method) in enumerate(families.items()):
        colour = methods.index(method) if by_method else place
        earlier = sum(families[other] == method for other in styles) if by_method else 0
        styles[key] = style.series_style(colour, colour + earlier)
    return tuple(styles.get(family(analysis, number), style.UNTOUCHED) for number in range(len(analysis.rows)))


def crowded(analysis: Analysis) -> bool:
    """Whether there are too many rows for one panel."""
    return len(analysis.rows) > MAX_ROWS


def best_learners(analysis: Analysis) -> list[int]:
    """Return all rows; if there are too many, the bases and those that learned most, in the order of the tables."""
    if not crowded(analysis):
        return list(range(len(analysis.rows)))

    def merit(number: int) -> tuple[bool, bool, float]:
        one = analysis.main.get((number, summary.KA))
        row = analysis.rows[number]
        return row.is_baseline, row.ranked, one.value if one is not None and math.isfinite(one.value) else -1.0

    return sorted(sorted(range(len(analysis.rows)), key=merit, reverse=True)[:MAX_ROWS])


def label(analysis: Analysis, number: int, limit: int = LABEL) -> str:
    """Return a row's name as shown in plots."""
    return shorten(analysis.rows[number].label, limit)


def shorten(text: str, limit: int = LABEL) -> str:
    """Sanitise text and cut it to the width of a legend."""
    safe = sanitize(text)
    return safe if len(safe) <= limit or limit >= LONGEST_LABEL else f"{safe[: limit - 1].rstrip()}…"


def error_bar(one: Estimate) -> npt.NDArray[np.float64] | None:
    """Return the interval as matplotlib's (2, 1) distances below and above the value; None without an interval."""
    if not (math.isfinite(one.low) and math.isfinite(one.high)):
        return None
    return np.array([[max(0.0, one.value - one.low)], [max(0.0, one.high - one.value)]])


def rows_with(analysis: Analysis, *measures: str) -> dict[int, tuple[Estimate, ...]]:
    """Return the rows that have all of these measures of the main table."""
    rows = {}
    for number in range(len(analysis.rows)):
        estimates = [analysis.main.get((number, measure)) for measure in measures]
        known = tuple(one for one in estimates if one is not None and math.isfinite(one.value))
        if len(known) == len(measures):
            rows[number] = known
    return rows


def legend(
    figure: Figure,
    analysis: Analysis,
    numbers: Iterable[int] | None = None,
    place: Literal["outside upper left", "outside lower left"] = "outside upper left",
) -> None:
    """Draw one legend entry for each style, as many in a line as fit."""
    from matplotlib.lines import Line2D

    chosen = list(range(len(analysis.rows))) if numbers is None else list(numbers)
    styles = row_styles(analysis)
    entries: dict[tuple[str, str], tuple[Line2D, str]] = {}
    for number in chosen:
        look, row = styles[number], analysis.rows[number]
        handle = Line2D(
            [], [], color=look.colour, marker=look.marker, linestyle="none", markersize=6, markeredgecolor="none"
        )
        entries.setdefault(family(analysis, number), (handle, row.first.curve or row.label))
    handles, full = [handle for handle, _ in entries.values()], [name for _, name in entries.values()]
    names = [shorten(name) for name in full]
    if len(set(names)) < len(set(full)):
        names = [shorten(name, LONGEST_LABEL) for name in full]
    figure.legend(
        handles,
        names,
        loc=place,
        ncols=legend_columns(figure, names),
        fontsize=8.5,
        columnspacing=1.4,
        handletextpad=0.3,
    )


def legend_columns(figure: Figure, names: Sequence[str], handle: float = 0.45) -> int:
    """Return how many legend entries fit in a line; ``handle`` is the width before a name, in inches."""
    widest = max(map(len, names), default=0) * 0.072 + handle
    return max(1, min(6, int(figure.get_figwidth() / widest)))


def annotate(axes: Axes, texts: Sequence[tuple[float, float, str]]) -> None:
    """Write names beside points where they cover neither each other nor a point; names without space are left out."""
    figure = axes.figure
    dots = [axes.transData.transform((x, y)) * 72 / figure.dpi for x, y, _ in texts]
    frame = axes.get_window_extent().transformed(figure.dpi_scale_trans.inverted()).extents * 72
    taken: list[tuple[float, float, float, float]] = [(x - 4, y - 4, x + 4, y + 4) for x, y in dots]
    for (x, y, text), (left, bottom) in zip(texts, dots, strict=True):
        width = 4.9 * len(text)
        for dx, dy, side in ((8, 6, 0), (8, -13, 0), (-8, 6, 1), (-8, -13, 1), (8, 17, 0), (-8, 17, 1), (8, -24, 0)):
            start = left + dx - width * side
            box = (start, bottom + dy, start + width, bottom + dy + 10)
            inside = frame[0] <= box[0] and box[2] <= frame[2] + 4 and frame[1] <= box[1] and box[3] <= frame[3] + 6
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                axes.annotate(
                    text, (x, y), xytext=(dx, dy), textcoords="offset points", ha="right" if side else "left",
                    fontsize=9, color=style.INK, zorder=5,
                )  # fmt: skip
                break


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def finish(key: str, title: str, alt: str, caption: str, data: Records, figure: Figure) -> Plot:
    """Save the figure as SVG and as PDF."""
    svg = style.save(figure, "svg")
    figure.set_layout_engine("none")  # saving already laid it out
    return Plot(key, title, alt, caption, data, svg, style.save(figure, "pdf"))
