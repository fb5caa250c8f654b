"""The details below a row of the leaderboard: settings, training, cost, diagnostics and signatures."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from reports.plots.losses import subsample
from reports.record import ELSEWHERE, CellResult, Cost
from reports.statistics.rows import ReportRow
from reports.text import MISSING, format_duration, format_number, sanitize


@dataclass(frozen=True)
class LossCurve:
    """A loss curve: an SVG path in a 240 x 64 box and its text alternative."""

    path: str
    alt: str


@dataclass(frozen=True)
class RowDetails:
    """The details of one row as sanitised text, ready to be shown."""

    summary: str
    interpretation: str
    problem: str
    settings: tuple[tuple[str, str, str], ...]
    costs: tuple[tuple[str, ...], ...]
    diagnostics: tuple[tuple[str, str], ...]
    signatures: tuple[tuple[str, str], ...]
    curve: LossCurve | None


MAX_POINTS = 240
"""Points of the small curve, one for each unit of its width."""
COST_HEADS = ("seed", "training", "answering", "peak memory", "trainable parameters", "steps", "supervised tokens")


def collect_details(row: ReportRow) -> RowDetails:
    """Collect the details of a row; settings and diagnostics are those of its first seed."""
    cell = row.first
    return RowDetails(
        summary=sanitize(cell.summary, 600),
        interpretation=sanitize(cell.our_reading, 900),
        problem=sanitize(row.status, 600),
        settings=tuple(
            (sanitize(name), sanitize(_setting_text(one.value), 200), sanitize(one.origin))
            for name, one in cell.settings.items()
        ),
        costs=tuple(map(_cost, row.cells)) if any(_has_cost(one) for one in row.cells) else (),
        diagnostics=tuple((sanitize(name), f"{value:.4g}") for name, value in cell.diagnostics.items()),
        signatures=_signatures(row),
        curve=_curve(cell),
    )


def _setting_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _has_cost(cell: CellResult) -> bool:
    return cell.cost != Cost() or cell.from_elsewhere


def _cost(cell: CellResult) -> tuple[str, ...]:
    cost, elsewhere = cell.cost, cell.from_elsewhere
    training = format_duration(cost.training_seconds) + (
        f" in {cost.processes} processes" if cost.processes > 1 else ""
    )
    return (
        str(cell.seed),
        ELSEWHERE if elsewhere else training,
        ELSEWHERE if elsewhere and not cost.answering_seconds else format_duration(cost.answering_seconds),
        f"{cost.peak_memory_bytes / 2**30:.2f} GiB" if cost.peak_memory_bytes else MISSING,
        f"{cost.trainable_parameters:,}" if cost.trainable_parameters else MISSING,
        f"{cost.optimiser_steps:,}" if cost.optimiser_steps else MISSING,
        f"{cost.supervised_tokens:,}" if cost.supervised_tokens else MISSING,
    )


def _signatures(row: ReportRow) -> tuple[tuple[str, str], ...]:
    signatures = [(f"seed {cell.seed}", sanitize(cell.signature, 400)) for cell in row.cells if cell.signature]
    for name, result in row.first.scores.items():
        if result.signature:
            signatures.append((sanitize(name), sanitize(result.signature, 400)))
    return tuple(signatures)


def _curve(cell: CellResult) -> LossCurve | None:
    points = [(one.step, one.loss) for one in cell.training if math.isfinite(one.loss)]
    if len(points) < 2:
        return None
    first, last = points[0][0], points[-1][0]
    top = max(loss for _, loss in points) or 1.0
    width = max(last - first, 1)
    drawn = [points[index] for index in subsample(len(points), MAX_POINTS)]
    places = [(240 * (step - first) / width, 62 - 60 * max(loss, 0.0) / top) for step, loss in drawn]
    path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in places)
    start, end = format_number(points[0][1]), format_number(points[-1][1])
    alt = f"Training loss from {start} at step {first} to {end} at step {last}."
    return LossCurve(path, alt)
