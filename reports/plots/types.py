"""Adaptation by fine-grained type, News beside Entity (figure 5 of the KORE paper)."""

from __future__ import annotations

from collections.abc import Sequence

from reports.plots import style
from reports.plots.canvas import Plot, best_learners, crowded, finish, label, legend, row_styles
from reports.statistics import summary
from reports.statistics.estimates import Analysis, Slice
from reports.text import format_number, sanitize

MAX_TYPES = 20
"""Types drawn; the table has all of them."""


def types(analysis: Analysis) -> Plot | None:
    """Draw bars of K.A by fine-grained type, the largest types first, groups side by side."""
    parts = [part for part in analysis.slices if part.type and not part.by_answer]
    chosen = sorted(parts, key=lambda part: -part.n)[:MAX_TYPES]
    groups = list(dict.fromkeys(part.group for part in parts))
    columns = [[part for part in parts if part in chosen and part.group == group] for group in groups]
    columns = [column for column in columns if column]
    if not columns:
        return None
    tallest = max(len(column) for column in columns)
    rows = best_learners(analysis)
    bar = 0.8 / max(len(rows), 1)
    figure = style.new_figure(6.1 * len(columns), 1.0 + tallest * max(0.34, 0.09 * len(rows)))
    panels = figure.subplots(1, len(columns), sharex=True, squeeze=False)[0]
    data: list[tuple[str, ...]] = [("type", "group", "n", "method", "CEM", "F1", "K.A")]
    for axes, column in zip(panels, columns, strict=True):
        for place, number in enumerate(rows):
            look = row_styles(analysis)[number]
            for position, part in enumerate(column):
                value = _type_value(analysis, number, part)
                if value is None:
                    continue
                height = position + (place - (len(rows) - 1) / 2) * bar
                axes.barh(height, sum(value) / 2, bar * 0.86, color=look.colour)
                axes.plot(sum(value) / 2, height, look.marker, color=look.colour, markersize=4.5, clip_on=False)
                texts = map(format_number, (*value, sum(value) / 2))
                data.append(
                    (sanitize(part.type), sanitize(part.group), str(part.n), label(analysis, number, 120), *texts)
                )
        axes.set_yticks(range(len(column)), [f"{sanitize(p.type, 24)} · {p.n}" for p in column], color=style.INK)
        axes.set(ylim=(tallest - 0.5, -0.6), xlabel="K.A", title=sanitize(column[0].group).capitalize() or "All")
        axes.xaxis.grid(visible=True)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    legend(figure, analysis, rows)
    shown = sum(map(len, columns))
    best = _best_by_type(analysis, [part for column in columns for part in column])
    more = "" if shown == len(parts) else " The table lists all types."
    alt = f"Bars of adaptation (K.A) for the {shown} largest types. {best}{more}"
    caption = "The largest types, with their number of questions; the table has all of them."
    if crowded(analysis):
        caption += f" The {len(rows)} methods that learned most, the base among them; the table has all of these too."
    return finish("types", "Adaptation by fine-grained type", alt, caption, tuple(data), figure)


def _type_value(analysis: Analysis, number: int, part: Slice) -> tuple[float, float] | None:
    cem, f1 = (analysis.types.get((number, f"{part.key}/{metric}")) for metric in (summary.CEM, summary.F1))
    return None if cem is None or f1 is None else (cem.value, f1.value)


def _best_by_type(analysis: Analysis, parts: Sequence[Slice]) -> str:
    texts = []
    for part in parts:
        values = {n: sum(v) / 2 for n in range(len(analysis.rows)) if (v := _type_value(analysis, n, part))}
        if values:
            best = max(values, key=lambda number: values[number])
            name = sanitize(analysis.rows[best].label)
            texts.append(f"{sanitize(part.type)}: highest {name} with {format_number(values[best])}")
    return "; ".join(texts) + "."
