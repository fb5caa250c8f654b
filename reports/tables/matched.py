"""Retention at matched adaptation: at one setting a method that has not learnt looks as if it protected.

A sweep gives each method a curve of retention over adaptation; ``matching`` compares two of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from reports.model import Column, Table, TableRow
from reports.statistics import resampling as statistics
from reports.statistics import summary
from reports.statistics.estimates import Analysis, Estimate
from reports.statistics.matched_curves import MatchedComparison, RetentionCurve, compare
from reports.statistics.resampling import Array, ClusterSums
from reports.statistics.rows import ReportRow
from reports.statistics.samples import HEADLINE, blocks
from reports.text import sanitize

ADAPTATION, RETENTION = summary.KA, summary.KR1
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
        model: Whose curve it is.
        label: What the method, with its data, is called.
        setting: What was swept.
        values: Its values, ascending.
        rows: Numbers within the rows of the analysis, in the same order.
    """

    model: str
    label: str
    setting: str
    values: tuple[float, ...]
    rows: tuple[int, ...]


def curves(analysis: Analysis) -> tuple[SweepCurve, ...]:
    """The curves of a run: of each method that was swept, the points that are scored, if there are at least two."""
    found: dict[tuple[str, str, str], list[tuple[float, int]]] = {}
    for number, row in enumerate(analysis.rows):
        cell = row.first
        value = cell.crossed.get(cell.swept)
        scored = all((number, measure) in analysis.main for measure in (ADAPTATION, RETENTION))
        if isinstance(value, int | float) and scored:
            found.setdefault((cell.model, cell.curve, cell.swept), []).append((float(value), number))
    made = []
    for (model, label, setting), points in found.items():
        values, rows = zip(*sorted(points), strict=True)
        made.append(SweepCurve(model, label, setting, values, rows))
    return tuple(curve for curve in made if len(curve.rows) > 1 and _seeds(analysis, curve))


def matched(analysis: Analysis, chosen: Sequence[SweepCurve]) -> dict[tuple[int, int], MatchedComparison]:
    """Each two curves of one model, by their numbers, compared at matched adaptation; p values Holm-corrected."""
    traces = _traces(analysis, chosen)
    found = {
        (a, b): compare(traces[a], traces[b])
        for a, b in combinations(range(len(chosen)), 2)
        if chosen[a].model == chosen[b].model
    }
    corrected = statistics.holm(np.array([one.p for one in found.values()]))
    return {
        pair: MatchedComparison(**{**vars(one), "p": float(p)})
        for (pair, one), p in zip(found.items(), corrected, strict=True)
    }


def matched_table(analysis: Analysis) -> Table | None:
    """One line for each two curves; None for a run without a sweep of two methods."""
    chosen = curves(analysis)
    found = matched(analysis, chosen) if len(chosen) > 1 else {}
    if not found:
        return None
    lines = []
    for (a, b), one in found.items():
        marks = tuple(dict.fromkeys(mark for curve in (a, b) for mark in _marks(analysis, chosen[curve])))
        label = f"{sanitize(chosen[a].label)}, {sanitize(chosen[b].label)}"
        state = ", ".join([*marks, *([one.reason] if one.reason else [])])
        lines.append(TableRow(f"matched-{a}-{b}", label, _cells(analysis, chosen[a].rows[0], one, marks), state))
    return Table("matched", "Retention at matched adaptation", "Two methods", COLUMNS, tuple(lines), _notes(chosen))


def _cells(analysis: Analysis, row: int, one: MatchedComparison, marks: tuple[str, ...]) -> dict[str, Estimate]:
    adapted, kept = (analysis.main[row, measure].n for measure in (ADAPTATION, RETENTION))
    low, high = one.interval
    cells = {
        "low": Estimate(one.low, n=adapted),
        "high": Estimate(one.high, n=adapted),
        "level": Estimate(one.level, n=adapted),
        "first": Estimate(one.kept[0], n=kept),
        "second": Estimate(one.kept[1], n=kept),
        "difference": Estimate(one.difference, low, high, n=kept, p=one.p, marks=marks),
    }
    return {key: cell for key, cell in cells.items() if np.isfinite(cell.value)}


def _notes(chosen: Sequence[SweepCurve]) -> tuple[str, ...]:
    swept = ", ".join(dict.fromkeys(sanitize(curve.setting) for curve in chosen))
    return (
        f"Each method was trained at several values of {swept}. A method that has not learnt forgets nothing, so two "
        f"are compared where both reach the same {ADAPTATION}: in the middle of the range that both reach, {RETENTION} "
        "is interpolated between neighbouring settings and never extrapolated.",
        "Where a curve passes the level twice, the better retention counts.",
        f"Intervals are at 95 %, from {statistics.DRAWS:,} resamples of questions (whole clusters) and training seeds, "
        "the same for both methods; * the two differ at p < 0.05, Holm-corrected over this table. With one seed they "
        "do not show how much another would change.",
    )


def _marks(analysis: Analysis, curve: SweepCurve) -> Iterator[str]:
    for row in curve.rows:
        yield from analysis.rows[row].marks
        yield from analysis.main[row, RETENTION].marks


def _seeds(analysis: Analysis, curve: SweepCurve) -> tuple[int, ...]:
    """The seeds with which every point ended well."""
    sets = [{cell.seed for cell in analysis.rows[number].usable} for number in curve.rows]
    return tuple(sorted(set.intersection(*sets)))


def _traces(analysis: Analysis, chosen: Sequence[SweepCurve]) -> list[RetentionCurve]:
    """The curves with their resamples: each cell is resampled on its own, all by the same questions."""
    seeds = [_seeds(analysis, curve) for curve in chosen]
    singles: list[ReportRow] = []
    for curve, common in zip(chosen, seeds, strict=True):
        for row in (analysis.rows[number] for number in curve.rows):
            cells = {cell.seed: cell for cell in row.usable}
            singles += [ReportRow(row.key, row.label, (cells[seed],)) for seed in common]
    parts, clusters = _resampled(analysis, singles)
    measures = [np.array([summary.combine(measure, own) for own in parts]) for measure in (ADAPTATION, RETENTION)]
    traces, start = [], 0
    for curve, common in zip(chosen, seeds, strict=True):
        end = start + len(curve.rows) * len(common)
        shape = (len(curve.rows), len(common), -1)
        adapted, kept = (whole[start:end].reshape(shape) for whole in measures)
        traces.append(RetentionCurve(adapted, kept, common, clusters))
        start = end
    return traces


def _resampled(analysis: Analysis, singles: Sequence[ReportRow]) -> tuple[list[dict[str, Array]], int]:
    """For each cell, by part of the summaries, its score and then its resamples; and the number of clusters."""
    found: list[dict[str, Array]] = [{} for _ in singles]
    clusters: dict[str, int] = {}
    for name, metric, part in _parts(analysis):
        for block in blocks(analysis.run, singles, name):
            scores = block.scores(name, metric)
            sums = ClusterSums.of(scores.over, scores.under, scores.clusters)
            draws = 100 * statistics.bootstrap(sums, statistics.seed_of(name), statistics.DRAWS)
            clusters[name] = len(sums.over)
            for column, number in enumerate(scores.rows):
                own = scores.own[column][0]
                found[number][part] = np.concatenate([[own], draws[:, column] + own - 100 * sums.value()[column]])
    return found, sum(clusters.values())


def _parts(analysis: Analysis) -> Iterator[tuple[str, str, str]]:
    """Benchmark, metric and part of the summaries."""
    for metric in (summary.CEM, summary.F1):
        yield analysis.adaptation, metric, metric
    for name in analysis.retention:
        yield name, HEADLINE, summary.canonical(name)
