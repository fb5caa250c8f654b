"""How much of each part of the knowledge is left after each injection stage."""

from __future__ import annotations

import math

import numpy as np

from reports.plots import style
from reports.plots.canvas import Plot, finish
from reports.statistics.estimates import Analysis
from reports.statistics.stages import StageRow, stage_analysis
from reports.text import format_number, sanitize

PANELS_PER_LINE = 4


def stages(analysis: Analysis) -> list[Plot]:
    """Draw a matrix for each method: lines are stages, columns the parts; nothing for a run without stages."""
    rows = stage_analysis(analysis)
    if not rows:
        return []
    lines = -(-len(rows) // PANELS_PER_LINE)
    across = min(len(rows), PANELS_PER_LINE)
    size = max(one.stages for one in rows)
    figure = style.new_figure(0.6 + across * (0.7 + 0.5 * size), lines * (0.8 + 0.42 * (size + 1)))
    panels = figure.subplots(lines, across, squeeze=False).ravel()
    top = max((one.value for row in rows for line in row.matrix for one in line if one is not None), default=0.0)
    data: list[tuple[str, ...]] = [("method", "after stage", "part", "K.A", "low", "high")]
    for axes, row in zip(panels, rows, strict=False):
        values = np.array([[math.nan if one is None else one.value for one in line] for line in row.matrix])
        axes.imshow(values, cmap="Blues", vmin=0, vmax=top or 1.0, aspect="auto")
        for after, line in enumerate(row.matrix):
            for part, one in enumerate(line):
                if one is None:
                    continue
                colour = "white" if one.value > 0.6 * top else style.ON_LIGHT
                text = format_number(one.value, 1)
                axes.text(part, after, text, ha="center", va="center", fontsize=8, color=colour)
                numbers = map(format_number, (one.value, one.low, one.high))
                data.append((sanitize(row.label), str(after), str(part + 1), *numbers))
        axes.set_xticks(range(row.stages), [str(part + 1) for part in range(row.stages)])
        axes.set_yticks(range(len(row.matrix)), ["base", *(str(after) for after in range(1, len(row.matrix)))])
        axes.set(title=sanitize(row.label, 24), xlabel="Part", ylabel="After stage")
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
    for axes in panels[len(rows) :]:
        axes.set_visible(False)
    caption = "K.A on each part of the knowledge after each stage; the base has seen none, and no stage a later part."
    return [finish("stages", "What each stage leaves", _alt(rows), caption, tuple(data), figure)]


def _alt(rows: tuple[StageRow, ...]) -> str:
    texts = []
    for row in rows:
        ends = [one for one in row.matrix[-1] if one is not None]
        parts = ", ".join(f"part {part} {format_number(one.value)}" for part, one in enumerate(ends, 1))
        forgetting = "" if row.forgetting is None else f"; forgetting {format_number(row.forgetting.value)}"
        texts.append(f"{sanitize(row.label)}, after the last of {row.stages} stages: {parts}{forgetting}")
    return f"Matrices of adaptation (K.A) by stage and part of the knowledge. {'. '.join(texts)}."
