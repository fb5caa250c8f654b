"""What is left of each part of the knowledge after each injection stage."""

from __future__ import annotations

import math

import numpy as np

from reports.plots import style
from reports.plots.canvas import Plot, finish
from reports.statistics.estimates import Analysis
from reports.statistics.stages import StageRow, stage_analysis
from reports.text import format_number, sanitize

ACROSS = 4
"""Matrices beside each other."""


def stages(analysis: Analysis) -> list[Plot]:
    """A matrix for each method: rows are stages, columns the parts; nothing without several stages."""
    found = stage_analysis(analysis)
    if not found:
        return []
    lines = -(-len(found) // ACROSS)
    across = min(len(found), ACROSS)
    size = max(one.stages for one in found)
    figure = style.new_figure(0.6 + across * (0.7 + 0.5 * size), lines * (0.8 + 0.42 * (size + 1)))
    panels = figure.subplots(lines, across, squeeze=False).ravel()
    top = max((one.value for row in found for line in row.matrix for one in line if one is not None), default=0.0)
    data: list[tuple[str, ...]] = [("method", "after stage", "part", "K.A", "low", "high")]
    for axes, row in zip(panels, found, strict=False):
        values = np.array([[math.nan if one is None else one.value for one in line] for line in row.matrix])
        axes.imshow(values, cmap="Blues", vmin=0, vmax=top or 1.0, aspect="auto")
        for after, line in enumerate(row.matrix):
            for part, one in enumerate(line):
                if one is None:
                    continue
                dark = one.value > 0.6 * top
                axes.text(
                    part, after, format_number(one.value, 1), ha="center", va="center", fontsize=8,
                    color="white" if dark else style.ON_LIGHT,
                )  # fmt: skip
                data.append(
                    (
                        sanitize(row.label),
                        str(after),
                        str(part + 1),
                        *map(format_number, (one.value, one.low, one.high)),
                    )
                )
        axes.set_xticks(range(row.stages), [str(part + 1) for part in range(row.stages)])
        axes.set_yticks(range(len(row.matrix)), ["base", *(str(after) for after in range(1, len(row.matrix)))])
        axes.set(title=sanitize(row.label, 24), xlabel="Part", ylabel="After stage")
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
    for axes in panels[len(found) :]:
        axes.set_visible(False)
    caption = "K.A on each part of the knowledge after each stage; the base has seen none, and no stage a later part."
    return [finish("stages", "What each stage leaves", _alt(found), caption, tuple(data), figure)]


def _alt(found: tuple[StageRow, ...]) -> str:
    said = []
    for row in found:
        ends = [one for one in row.matrix[-1] if one is not None]
        parts = ", ".join(f"part {part} {format_number(one.value)}" for part, one in enumerate(ends, 1))
        forgot = "" if row.forgetting is None else f"; forgetting {format_number(row.forgetting.value)}"
        said.append(f"{sanitize(row.label)}, after the last of {row.stages} stages: {parts}{forgot}")
    return f"Matrices of adaptation (K.A) by stage and part of the knowledge. {'. '.join(said)}."
