"""What all plots share: how a row looks, legends, intervals, and the finished plot."""

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
"""Letters of a name."""
MANY = 8
"""Rows that one panel holds before it becomes unreadable."""


@dataclass(frozen=True)
class Plot:
    """A finished plot.

    Args:
        key: File name without its ending.
        title: Heading.
        alt: What it shows, in words, for those who cannot see it.
        caption: How to read it, in one sentence.
        data: Header and records behind it.
        svg: The picture.
        pdf: The same, for papers.
    """

    key: str
    title: str
    alt: str
    caption: str
    data: Records
    svg: bytes
    pdf: bytes


def family(analysis: Analysis, number: int) -> tuple[str, str]:
    """What a row shares its look with: the other points of its sweep, else itself."""
    row = analysis.rows[number]
    return row.first.model, row.first.curve or row.key


def looks(analysis: Analysis) -> tuple[SeriesStyle, ...]:
    """How each row is drawn, in all plots alike; the points of one sweep share a look.

    A colour each, as long as there are enough; then one for each method, and a marker for each of its variants.
    """
    families: dict[tuple[str, str], str] = {}
    for number, row in enumerate(analysis.rows):
        if not row.is_baseline:
            families.setdefault(family(analysis, number), row.first.method)
    crowd = len(families) > len(style.COLOURS)
    methods = list(dict.fromkeys(families.values()))
    drawn: dict[tuple[str, str], SeriesStyle] = {}
    for place, (one, method) in enumerate(families.items()):
        colour = methods.index(method) if crowd else place
        earlier = sum(families[other] == method for other in drawn) if crowd else 0
        drawn[one] = style.look(colour, colour + earlier)
    return tuple(drawn.get(family(analysis, number), style.UNTOUCHED) for number in range(len(analysis.rows)))


def crowded(analysis: Analysis) -> bool:
    """Whether there are too many rows to be told apart in one panel."""
    return len(analysis.rows) > MANY


def leading(analysis: Analysis) -> list[int]:
    """All rows, or of too many the bases and those that learned most, in the order of the tables."""
    if not crowded(analysis):
        return list(range(len(analysis.rows)))

    def merit(number: int) -> tuple[bool, bool, float]:
        one = analysis.main.get((number, summary.KA))
        row = analysis.rows[number]
        return row.is_baseline, row.ranked, one.value if one is not None and math.isfinite(one.value) else -1.0

    return sorted(sorted(range(len(analysis.rows)), key=merit, reverse=True)[:MANY])


def label(analysis: Analysis, number: int, limit: int = LABEL) -> str:
    """A row's name as plots show it."""
    return short(analysis.rows[number].label, limit)


def short(text: str, limit: int = LABEL) -> str:
    """Harmless text, cut where it is longer than a legend can hold."""
    shown = sanitize(text)
    return shown if len(shown) <= limit or limit >= LONGEST_LABEL else f"{shown[: limit - 1].rstrip()}…"


def reach(one: Estimate) -> npt.NDArray[np.float64] | None:
    """(2, 1) how far the interval goes below and above."""
    if not (math.isfinite(one.low) and math.isfinite(one.high)):
        return None
    return np.array([[max(0.0, one.value - one.low)], [max(0.0, one.high - one.value)]])


def having(analysis: Analysis, *measures: str) -> dict[int, tuple[Estimate, ...]]:
    """Rows that have all of these measures of the main table."""
    found = {}
    for number in range(len(analysis.rows)):
        ones = [analysis.main.get((number, measure)) for measure in measures]
        there = tuple(one for one in ones if one is not None and math.isfinite(one.value))
        if len(there) == len(measures):
            found[number] = there
    return found


def legend(
    figure: Figure,
    analysis: Analysis,
    numbers: Iterable[int] | None = None,
    place: Literal["outside upper left", "outside lower left"] = "outside upper left",
) -> None:
    """One entry a look, above the plot; as many beside each other as fit."""
    from matplotlib.lines import Line2D

    chosen = list(range(len(analysis.rows))) if numbers is None else list(numbers)
    drawn = looks(analysis)
    entries: dict[tuple[str, str], tuple[Line2D, str]] = {}
    for number in chosen:
        look, row = drawn[number], analysis.rows[number]
        handle = Line2D(
            [], [], color=look.colour, marker=look.marker, linestyle="none", markersize=6, markeredgecolor="none"
        )
        entries.setdefault(family(analysis, number), (handle, short(row.first.curve or row.label)))
    handles, names = [one for one, _ in entries.values()], [name for _, name in entries.values()]
    figure.legend(
        handles, names, loc=place, ncols=across(figure, names), fontsize=8.5, columnspacing=1.4, handletextpad=0.3
    )


def across(figure: Figure, names: Sequence[str], sample: float = 0.45) -> int:
    """How many legend entries fit beside each other; ``sample`` is what stands before a name, in inches."""
    widest = max(map(len, names), default=0) * 0.072 + sample
    return max(1, min(6, int(figure.get_figwidth() / widest)))


def annotate(axes: Axes, texts: Sequence[tuple[float, float, str]]) -> None:
    """Names beside points, moved until they cover neither each other nor a point; what finds no place is left out."""
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


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def finish(key: str, title: str, alt: str, caption: str, data: Records, figure: Figure) -> Plot:
    """Draw the figure once as SVG and once as PDF."""
    svg = style.save(figure, "svg")
    figure.set_layout_engine("none")  # saving has laid it out; once is enough
    return Plot(key, title, alt, caption, data, svg, style.save(figure, "pdf"))
