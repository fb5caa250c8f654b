"""How much of each part of the knowledge is left after each injection stage."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes

from reports.plots import style
from reports.plots.canvas import Plot, finish
from reports.statistics.estimates import Analysis
from reports.statistics.stages import StageRow, stage_analysis
from reports.text import format_number, sanitize

PANELS_PER_LINE = 4
LONGEST = 40
"""Characters of a stage's name."""
TICK = 14
"""Characters of a name at an axis."""


def stages(analysis: Analysis) -> list[Plot]:
    """Draw a matrix for each method: lines are stages, columns the parts; nothing for a run without stages."""
    rows = stage_analysis(analysis)
    if not rows:
        return []
    lines = -(-len(rows) // PANELS_PER_LINE)
    across = min(len(rows), PANELS_PER_LINE)
    size = max(one.stages for one in rows)
    longest = max(min(len(name), TICK) for row in rows for name in row.names or ("",))
    margin = 0.07 * longest  # inches, for names beside and below each matrix
    figure = style.new_figure(
        0.6 + across * (0.7 + margin + 0.5 * size), lines * (0.8 + margin / 2 + 0.42 * (size + 1))
    )
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
                stage = sanitize(row.name(after), LONGEST) if after else "0"
                data.append((sanitize(row.label), stage, sanitize(row.name(part + 1), LONGEST), *numbers))
        _name_stages(axes, row)
        axes.set(title=sanitize(row.label, 24), xlabel="Part", ylabel="After stage")
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
    for axes in panels[len(rows) :]:
        axes.set_visible(False)
    caption = "K.A on each part of the knowledge after each stage; the base has seen none, and no stage a later part."
    return [finish("stages", "What each stage leaves", _alt(rows), caption, tuple(data), figure)]


def _name_stages(axes: Axes, row: StageRow) -> None:
    """Label both axes with the names or numbers of the stages; names are slanted below the matrix."""
    names = [sanitize(row.name(stage), LONGEST) for stage in range(1, row.stages + 1)]
    shown = [name if len(name) <= TICK else f"{name[: TICK - 1]}…" for name in names]
    slant = 30 if row.names else 0
    axes.set_xticks(range(row.stages), shown, rotation=slant, ha="right" if slant else "center")
    axes.set_yticks(range(len(row.matrix)), ["base", *shown])


def _alt(rows: tuple[StageRow, ...]) -> str:
    texts = []
    for row in rows:
        ends = [one for one in row.matrix[-1] if one is not None]
        parts = ", ".join(
            f"part {sanitize(row.name(part), LONGEST)} {format_number(one.value)}" for part, one in enumerate(ends, 1)
        )
        forgetting = "" if row.forgetting is None else f"; forgetting {format_number(row.forgetting.value)}"
        texts.append(f"{sanitize(row.label)}, after the last of {row.stages} stages: {parts}{forgetting}")
    return f"Matrices of adaptation (K.A) by stage and part of the knowledge. {'. '.join(texts)}."
