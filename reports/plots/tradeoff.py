"""Adaptation against retention: confidence ellipses, each method's curve over its sweep, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse
from scipy import stats

from reports.plots import style
from reports.plots.canvas import Plot, annotate, crowded, finish, label, legend, row_styles, rows_with
from reports.record import SCALED
from reports.statistics import resampling, summary
from reports.statistics.estimates import Analysis, Estimate
from reports.tables.matched import SweepCurve, sweep_curves
from reports.text import format_number, join_words

Points = Mapping[int, tuple[Estimate, ...]]
"""Row number to adaptation and retention."""
Shape = tuple[float, float, float]
"""Width, height and angle of an ellipse, the angle in degrees."""


def tradeoff(analysis: Analysis) -> Plot | None:
    """Plot both scores of each row with their joint 95 % region, and one faint dot for each seed."""
    points = rows_with(analysis, summary.KA, summary.KR1)
    if not points:
        return None
    many = crowded(analysis)
    figure = style.new_figure(6.2, 4.6 + 0.07 * len(points) * many)
    axes = figure.add_subplot()
    styles = row_styles(analysis)
    shapes = {number: shape for number in points if (shape := ellipse(analysis, number)) is not None}
    _draw_background(axes, points, shapes)
    best = pareto_front(analysis, points)
    if len(best) > 1:
        line = [points[number] for number in best]
        axes.plot(
            [x.value for x, _ in line], [y.value for _, y in line], color=style.MUTED, linewidth=1.0,
            linestyle=(0, (4, 3)), zorder=1, label="Pareto front",
        )  # fmt: skip
        axes.legend(loc="lower left", fontsize=8)
    for curve in sweep_curves(analysis):
        line = [points[row] for row in curve_rows(analysis, curve) if row in points]
        axes.plot(
            [x.value for x, _ in line], [y.value for _, y in line], color=styles[curve.rows[0]].colour,
            linewidth=0.8 if curve.setting == SCALED else 1.2, zorder=2,
        )  # fmt: skip
    first = [number for number in points if number in best or analysis.rows[number].is_baseline]
    for number, (x, y) in points.items():
        look = styles[number]
        if number in shapes:
            _draw_ellipse(axes, (x.value, y.value), shapes[number], look.colour, strong=not many or number in first)
        if len(x.seeds) == len(y.seeds) > 1:
            axes.plot(x.seeds, y.seeds, look.marker, color=look.colour, markersize=3, alpha=0.45, linestyle="none")
        axes.plot(x.value, y.value, look.marker, color=look.colour, markersize=7, markeredgecolor="none", zorder=4)
    figure.draw_without_rendering()
    named = [*first, *(number for number in points if number not in first)]
    dots = {number: (x.value, y.value) for number, (x, y) in points.items()}
    annotate(axes, [(*dots[number], label(analysis, number)) for number in named])
    if many:
        legend(figure, analysis, points, "outside lower left")
    alt, data = _alt(analysis, points, best), _data(analysis, points, shapes, best)
    scaled = any(curve.setting == SCALED for curve in sweep_curves(analysis))
    caption = _CAPTION + (_SCALED_CAPTION if scaled else "")
    return finish("tradeoff", "What was learned against what was kept", alt, caption, data, figure)


def curve_rows(analysis: Analysis, curve: SweepCurve) -> tuple[int, ...]:
    """Return the rows that a curve's line joins, by rising value; an update scaled to nothing is the untouched base."""
    bases = (
        number
        for number, row in enumerate(analysis.rows)
        if row.is_baseline and row.first.model == curve.model and curve.setting == SCALED
    )
    return (*bases, *curve.rows)


def _draw_ellipse(axes: Axes, place: tuple[float, float], shape: Shape, colour: str, *, strong: bool) -> None:
    """Draw a filled ellipse with an outline; faint unless ``strong``."""
    width, height, angle = shape
    for alpha, look in (
        (0.10 if strong else 0.0, {"facecolor": colour}),
        (0.7 if strong else 0.2, {"facecolor": "none", "edgecolor": colour}),
    ):
        axes.add_patch(Ellipse(place, width, height, angle=angle, alpha=alpha, linewidth=0.8, zorder=2, **look))


_CAPTION = (
    "Up and to the right is better. Ellipses hold both scores with 95 % confidence, faint dots are single seeds, lines "
    "join the points of one sweep, the dashed line is the Pareto front, thin grey lines are equal averages."
)
_SCALED_CAPTION = (
    " A thin coloured line leads from the untouched base over scaled updates of one training to the whole: a row above "
    "it keeps more than the same gain costs by scaling alone."
)


def ellipse(analysis: Analysis, number: int) -> Shape | None:
    """Compute the joint 95 % region of a row's two scores; None without resamples."""
    covariance = analysis.covariances.get(number)
    if covariance is None or not all(map(math.isfinite, covariance)):
        return None
    xx, xy, yy = covariance
    values, vectors = np.linalg.eigh(np.array([[xx, xy], [xy, yy]]))
    wide, high = 2 * np.sqrt(np.maximum(values[::-1], 0) * stats.chi2.ppf(resampling.CONFIDENCE_LEVEL, 2))
    major = vectors[:, 1]
    return float(wide), float(high), float(np.degrees(np.arctan2(major[1], major[0]))) % 180


def pareto_front(analysis: Analysis, points: Points) -> list[int]:
    """Return the ranked rows that no other ranked row beats on both scores, by rising adaptation."""
    ranked = {number: pair for number, pair in points.items() if analysis.rows[number].ranked}
    best = [
        number
        for number, (x, y) in ranked.items()
        if not any(
            other[0].value >= x.value
            and other[1].value >= y.value
            and (other[0].value, other[1].value) != (x.value, y.value)
            for other in ranked.values()
        )
    ]
    return sorted(best, key=lambda number: points[number][0].value)


def _draw_background(axes: Axes, points: Points, shapes: Mapping[int, Shape]) -> None:
    """Set the limits so that the ellipses fit, and draw lines of equal averages."""
    extents = {number: _half_extent(*shape) for number, shape in shapes.items()}
    xs = [x.value + sign * extents.get(number, (0.0, 0.0))[0] for number, (x, _) in points.items() for sign in (-1, 1)]
    ys = [y.value + sign * extents.get(number, (0.0, 0.0))[1] for number, (_, y) in points.items() for sign in (-1, 1)]
    pad = 0.06 * max(max(xs) - min(xs), max(ys) - min(ys), 8)
    left, right = max(-1.0, min(xs) - pad), min(101.0, max(xs) + 1.4 * pad)
    bottom, top = max(-1.0, min(ys) - pad), min(101.0, max(ys) + 1.8 * pad)
    step = 10 if right - left + top - bottom > 40 else 5 if right - left + top - bottom > 20 else 2
    for average in range(0, 101, step):
        axes.plot([2 * average - top, 2 * average - bottom], [top, bottom], color=style.RULE, linewidth=0.6, zorder=0)
        at_floor = 2 * average - bottom <= right
        x, y = (2 * average - bottom, bottom) if at_floor else (right, 2 * average - right)
        if left + 0.1 * (right - left) < x <= right and bottom <= y < top - 0.1 * (top - bottom):
            axes.annotate(
                f"Avg {average}", (x, y), xytext=(-2, 4), textcoords="offset points", fontsize=7, color=style.MUTED,
                ha="right",
            )  # fmt: skip
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel="Adaptation, K.A  →", ylabel="Retention, K.R (v1)  →")


def _half_extent(width: float, height: float, angle: float) -> tuple[float, float]:
    """How far an ellipse is drawn to each side: the box around its axes, which is a little larger than itself."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return (abs(width * cos) + abs(height * sin)) / 2, (abs(width * sin) + abs(height * cos)) / 2


def _alt(analysis: Analysis, points: Points, best: Sequence[int]) -> str:
    scores = [
        f"{label(analysis, number, 120)}: adaptation {format_number(x.value)}, retention {format_number(y.value)}"
        for number, (x, y) in points.items()
    ]
    text = "Scatter plot of adaptation (K.A) against retention (K.R, paper v1). " + "; ".join(scores) + "."
    if best:
        text += f" On the Pareto front: {join_words([label(analysis, number, 120) for number in best])}."
    for curve in sweep_curves(analysis):
        values = [f"{value:g}" for value in curve.values]
        start = "the untouched base and " if curve.setting == SCALED else ""
        text += f" A line joins {start}{curve.label} over {curve.setting}: {join_words(values)}."
    return text


def _data(
    analysis: Analysis, points: Points, shapes: Mapping[int, Shape], best: Sequence[int]
) -> tuple[tuple[str, ...], ...]:
    scores = (f"{name}{end}" for name in ("K.A", "K.R") for end in ("", " low", " high"))
    head = ("method", *scores, "ellipse width", "ellipse height", "ellipse angle", "on the Pareto front")
    no_ellipse = (math.nan,) * 3
    return (
        head,
        *(
            (
                label(analysis, number, 120),
                *map(format_number, (x.value, x.low, x.high, y.value, y.low, y.high, *shapes.get(number, no_ellipse))),
                "yes" if number in best else "no",
            )
            for number, (x, y) in points.items()
        ),
    )
