"""Retention at matched adaptation: at a single setting, a method that learned little seems to forget little.

A sweep gives each method a curve of retention over adaptation; ``statistics.matched_curves`` compares two of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from reports.statistics import resampling, summary
from reports.statistics.estimates import Analysis, Estimate
from reports.statistics.matched_curves import MatchedComparison, RetentionCurve, compare_curves
from reports.statistics.resampling import Array, ClusterSums
from reports.statistics.rows import ReportRow
from reports.statistics.samples import HEADLINE, paired_blocks
from reports.table import Column, Table, TableRow
from reports.text import sanitize

ADAPTATION = summary.KA
RETENTION = summary.KR1
COLUMNS = (
    Column("low", "from", "Reached by both", f"{ADAPTATION} from which both curves go on"),
    Column("high", "to", "Reached by both", f"{ADAPTATION} up to which both curves go"),
    Column("level", f"at {ADAPTATION}", "Retention", "adaptation at which they are compared: the middle"),
    Column("first", "first", "Retention", f"{RETENTION} of the first there, interpolated"),
    Column("second", "second", "Retention", f"{RETENTION} of the second there, interpolated"),
    Column("difference", "difference", "Retention", "first minus second"),
)


@dataclass(frozen=True)
class SweepCurve:
    """One method at several values of a setting.

    Args:
        model: Name of the model.
        label: Name of the method, with its data.
        setting: Name of the swept setting.
        values: Its values, ascending.
        rows: Row numbers within the analysis, in the same order.
    """

    model: str
    label: str
    setting: str
    values: tuple[float, ...]
    rows: tuple[int, ...]


def sweep_curves(analysis: Analysis) -> tuple[SweepCurve, ...]:
    """Return the scored points of each method that was swept, if there are at least two."""
    scored = {
        number
        for number in range(len(analysis.rows))
        if {(number, ADAPTATION), (number, RETENTION)} <= set(analysis.main)
    }
    return tuple(curve for curve in curves_through(analysis, scored) if _common_seeds(analysis, curve))


def curves_through(analysis: Analysis, numbers: Collection[int]) -> tuple[SweepCurve, ...]:
    """Return the curve of each method that was swept through these rows, if it has at least two of them."""
    by_curve: dict[tuple[str, str, str], list[tuple[float, int]]] = {}
    for number in sorted(numbers):
        cell = analysis.rows[number].first
        value = cell.crossed.get(cell.swept)
        if isinstance(value, int | float):
            by_curve.setdefault((cell.model, cell.curve, cell.swept), []).append((float(value), number))
    curves = []
    for (model, label, setting), points in by_curve.items():
        values, rows = zip(*sorted(points), strict=True)
        curves.append(SweepCurve(model, label, setting, values, rows))
    return tuple(curve for curve in curves if len(curve.rows) > 1)


def compare_all(analysis: Analysis, curves: Sequence[SweepCurve]) -> dict[tuple[int, int], MatchedComparison]:
    """Compare each pair of curves of one model at matched adaptation; p values are Holm-corrected."""
    resampled = _resample_curves(analysis, curves)
    comparisons = {
        (a, b): compare_curves(resampled[a], resampled[b])
        for a, b in combinations(range(len(curves)), 2)
        if curves[a].model == curves[b].model
    }
    corrected = resampling.holm_correction(np.array([comparison.p for comparison in comparisons.values()]))
    return {
        pair: replace(comparison, p=float(p))
        for (pair, comparison), p in zip(comparisons.items(), corrected, strict=True)
    }


def matched_table(analysis: Analysis) -> Table | None:
    """One line for each pair of curves; None for a run that does not sweep two methods."""
    curves = sweep_curves(analysis)
    comparisons = compare_all(analysis, curves) if len(curves) > 1 else {}
    if not comparisons:
        return None
    lines = []
    for (a, b), comparison in comparisons.items():
        marks = tuple(dict.fromkeys(mark for curve in (a, b) for mark in _marks(analysis, curves[curve])))
        label = f"{sanitize(curves[a].label)}, {sanitize(curves[b].label)}"
        state = ", ".join([*marks, *([comparison.reason] if comparison.reason else [])])
        cells = _cells(analysis, curves[a].rows[0], comparison, marks)
        lines.append(TableRow(f"matched-{a}-{b}", label, cells, state))
    return Table("matched", "Retention at matched adaptation", "Two methods", COLUMNS, tuple(lines), _notes(curves))


def _cells(analysis: Analysis, row: int, one: MatchedComparison, marks: tuple[str, ...]) -> dict[str, Estimate]:
    n_adaptation, n_retention = (analysis.main[row, measure].n for measure in (ADAPTATION, RETENTION))
    low, high = one.interval
    cells = {
        "low": Estimate(one.low, n=n_adaptation),
        "high": Estimate(one.high, n=n_adaptation),
        "level": Estimate(one.level, n=n_adaptation),
        "first": Estimate(one.retention[0], n=n_retention),
        "second": Estimate(one.retention[1], n=n_retention),
        "difference": Estimate(one.difference, low, high, n=n_retention, p=one.p, marks=marks),
    }
    return {key: cell for key, cell in cells.items() if np.isfinite(cell.value)}


def _notes(curves: Sequence[SweepCurve]) -> tuple[str, ...]:
    swept = ", ".join(dict.fromkeys(sanitize(curve.setting) for curve in curves))
    return (
        f"Each method has a row for several values of {swept}. A method that has not learned forgets nothing, so two "
        f"are compared where both reach the same {ADAPTATION}: in the middle of the range that both reach, {RETENTION} "
        "is interpolated between neighbouring settings and never extrapolated.",
        "Where a curve passes the level twice, the better retention counts.",
        f"Intervals are at 95 %, from {resampling.N_BOOTSTRAP:,} resamples of questions (whole clusters) and training "
        "seeds, the same for both methods; * the two differ at p < 0.05, Holm-corrected over this table. With one seed "
        "they do not show how much another would change.",
    )


def _marks(analysis: Analysis, curve: SweepCurve) -> Iterator[str]:
    for row in curve.rows:
        yield from analysis.rows[row].marks
        yield from analysis.main[row, RETENTION].marks


def _common_seeds(analysis: Analysis, curve: SweepCurve) -> tuple[int, ...]:
    """The seeds with which every point finished."""
    return tuple(sorted(set.intersection(*({cell.seed for cell in analysis.rows[row].usable} for row in curve.rows))))


def _resample_curves(analysis: Analysis, curves: Sequence[SweepCurve]) -> list[RetentionCurve]:
    """The curves with their resamples: each cell is resampled on its own, all with the same questions."""
    seeds = [_common_seeds(analysis, curve) for curve in curves]
    singles: list[ReportRow] = []
    for curve, common in zip(curves, seeds, strict=True):
        for row in (analysis.rows[number] for number in curve.rows):
            cells = {cell.seed: cell for cell in row.usable}
            singles += [ReportRow(row.key, row.label, (cells[seed],)) for seed in common]
    parts, clusters = _resample_cells(analysis, singles)
    measures = [np.array([summary.combine(measure, own) for own in parts]) for measure in (ADAPTATION, RETENTION)]
    resampled, start = [], 0
    for curve, common in zip(curves, seeds, strict=True):
        end = start + len(curve.rows) * len(common)
        shape = (len(curve.rows), len(common), -1)
        adaptation, retention = (scores[start:end].reshape(shape) for scores in measures)
        resampled.append(RetentionCurve(adaptation, retention, common, clusters))
        start = end
    return resampled


def _resample_cells(analysis: Analysis, singles: Sequence[ReportRow]) -> tuple[list[dict[str, Array]], int]:
    """For each cell, by part of the summaries, its score and then its resamples; and the number of clusters."""
    by_cell: list[dict[str, Array]] = [{} for _ in singles]
    clusters: dict[str, int] = {}
    for name, metric, part in _parts(analysis):
        for block in paired_blocks(analysis.run, singles, name):
            scores = block.metric_array(name, metric)
            sums = ClusterSums.from_items(scores.numerators, scores.denominators, scores.clusters)
            seed = resampling.seed_from_name(name)
            draws = 100 * resampling.clustered_bootstrap(sums, seed, resampling.N_BOOTSTRAP)
            clusters[name] = len(sums.numerators)
            for column, number in enumerate(scores.rows):
                own = scores.reported[column][0]
                by_cell[number][part] = np.concatenate([[own], draws[:, column] + own - 100 * sums.scores()[column]])
    return by_cell, sum(clusters.values())


def _parts(analysis: Analysis) -> Iterator[tuple[str, str, str]]:
    """Benchmark, metric and part of the summaries."""
    for metric in (summary.CEM, summary.F1):
        yield analysis.adaptation, metric, metric
    for name in analysis.retention:
        yield name, HEADLINE, summary.canonical(name)
