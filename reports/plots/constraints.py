"""What a row that protects one benchmark's inputs gains and loses there, and elsewhere (KORE's figure 6)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from reports.plots import style
from reports.plots.canvas import Plot, error_bar, finish, label, row_styles
from reports.statistics import summary
from reports.statistics.estimates import Analysis, Contrast, Estimate
from reports.text import format_number, format_p, format_signed, sanitize


@dataclass(frozen=True)
class SpecificRow:
    """A row with inputs of a benchmark of its own, beside the same method without.

    Args:
        row: Its number.
        general: The number of the method's plain row.
        target: The benchmark, as a key of ``Analysis.benchmarks``.
        differences: It minus the plain row, by benchmark; the target first.
    """

    row: int
    general: int
    target: str
    differences: dict[str, Contrast]


def constraints(analysis: Analysis) -> Plot | None:
    """Plot the score on the target benchmark, and the difference from the plain row there and on all others."""
    found = list(specific_rows(analysis))
    if not found:
        return None
    figure = style.new_figure(7.6, 1.3 + 0.55 * len(found))
    scores, differences = figure.subplots(1, 2, sharey=True)
    data: list[tuple[str, ...]] = [
        (
            "row",
            "against",
            "target",
            "benchmark",
            "base",
            "against's score",
            "score",
            "difference",
            "low",
            "high",
            "p, Holm-corrected",
        )
    ]
    for place, one in enumerate(found):
        _draw_scores(scores, analysis, one, place)
        _draw_differences(differences, analysis, one, place)
        data += _records(analysis, one)
    scores.set_yticks(range(len(found)), [label(analysis, one.row) for one in found], color=style.INK)
    scores.set(ylim=(len(found) - 0.4, -0.6), xlabel="score", title="On its own benchmark")
    differences.set(xlabel="difference, points", title="Gain and loss")
    differences.axvline(0, color=style.MUTED, linewidth=0.9, zorder=1)
    for axes in (scores, differences):
        axes.xaxis.grid(visible=True)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    caption = (
        "Left: the row (filled), the same method without these inputs (open) and the untouched base (tick) on the "
        "benchmark whose inputs the row has seen. Right: the row minus that method, with the 95 % interval of the "
        "paired difference; faint dots are the other benchmarks, the tick is their mean."
    )
    alt = " ".join(_text(analysis, one) for one in found)
    return finish("constraints", "Specific constraints", alt, caption, tuple(data), figure)


def specific_rows(analysis: Analysis) -> Iterator[SpecificRow]:
    """The rows that have seen inputs of a benchmark of the run, if their method also has a plain row in it."""
    for number, row in enumerate(analysis.rows):
        cell = row.first
        for general, other in enumerate(analysis.rows):
            plain = not other.first.variant and not other.first.evaluation_inputs
            same = (other.first.model, other.first.method, other.first.data, other.first.crossed)
            if not plain or same != (cell.model, cell.method, cell.data, cell.crossed):
                continue
            measured = {
                name: contrast
                for (owner, name), contrast in analysis.against[general].items()
                if owner == number and (number, name) in analysis.benchmarks and math.isfinite(contrast.delta)
            }
            for target in map(summary.canonical, cell.evaluation_inputs):
                if target in measured:
                    others = {name: one for name, one in measured.items() if name != target}
                    yield SpecificRow(number, general, target, {target: measured[target], **others})


def _draw_scores(axes: Axes, analysis: Analysis, one: SpecificRow, place: int) -> None:
    look = row_styles(analysis)[one.row]
    base = _base_score(analysis, one, one.target)
    if base is not None:
        axes.plot(base.value, place, "|", color=style.BASELINE, markersize=15, markeredgewidth=1.6, zorder=2)
    for row, offset, filled in ((one.general, -0.13, False), (one.row, 0.13, True)):
        score = analysis.benchmarks[row, one.target]
        axes.errorbar(
            score.value, place + offset, xerr=error_bar(score), fmt=look.marker, color=look.colour, markersize=6.5,
            elinewidth=0.9, markerfacecolor=look.colour if filled else "white", zorder=3,
        )  # fmt: skip


def _draw_differences(axes: Axes, analysis: Analysis, one: SpecificRow, place: int) -> None:
    look = row_styles(analysis)[one.row]
    gain, others = one.differences[one.target], _other_differences(one)
    axes.plot(others, [place + 0.22] * len(others), ".", color=style.BASELINE, markersize=6, alpha=0.6)
    if others:
        axes.plot(np.mean(others), place + 0.22, "|", color=style.INK, markersize=11, markeredgewidth=1.4)
    ends = np.array([[gain.delta - gain.low], [gain.high - gain.delta]]).clip(min=0)
    bar = ends if np.isfinite(ends).all() else None
    axes.errorbar(
        gain.delta, place - 0.1, xerr=bar, fmt=look.marker, color=look.colour, markersize=7, elinewidth=1.2, zorder=3,
    )  # fmt: skip


def _other_differences(one: SpecificRow) -> list[float]:
    return [contrast.delta for name, contrast in one.differences.items() if name != one.target]


def _base_score(analysis: Analysis, one: SpecificRow, name: str) -> Estimate | None:
    model = analysis.rows[one.row].first.model
    numbers = [n for n, row in enumerate(analysis.rows) if row.is_baseline and row.first.model == model]
    return next((score for n in numbers if (score := analysis.benchmarks.get((n, name))) is not None), None)


def _records(analysis: Analysis, one: SpecificRow) -> Iterator[tuple[str, ...]]:
    names = (label(analysis, one.row, 120), label(analysis, one.general, 120), sanitize(one.target))
    for name, contrast in one.differences.items():
        base = _base_score(analysis, one, name)
        scores = [analysis.benchmarks[row, name].value for row in (one.general, one.row)]
        numbers = [math.nan if base is None else base.value, *scores, contrast.delta, contrast.low, contrast.high]
        yield (*names, sanitize(name), *map(format_number, numbers), format_p(contrast.p))


def _text(analysis: Analysis, one: SpecificRow) -> str:
    gain, others = one.differences[one.target], _other_differences(one)
    rest = f", against {format_signed(float(np.mean(others)))} on the others in the mean" if others else ""
    return (
        f"{label(analysis, one.row, 120)} against {label(analysis, one.general, 120)}: "
        f"{format_signed(gain.delta)} points on {sanitize(one.target)}{rest}."
    )
