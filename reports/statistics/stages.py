"""Continual injection: what was learned at each stage, and how much of it was forgotten later.

R[i, j] is K.A on the questions about part j after stage i. A part's questions are first asked after its own stage, so R
is known only on and below the diagonal. Three numbers are computed from it:

- average accuracy: the mean of the last row (Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory for Continual
  Learning", equation 2);
- backward transfer: the mean of R[T, j] - R[j, j] over all parts except the last (the same, equation 3); negative if
  later stages reduced what earlier ones taught;
- forgetting: the mean of max over j <= l < T of R[l, j], minus R[T, j], over all parts except the last (Chaudhry et
  al. 2018, "Riemannian Walk for Incremental Learning", equation 3). Their maximum also includes the stages before the
  part's own, whose values are not known here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reports.record import CellResult, StageResult
from reports.statistics import resampling, summary
from reports.statistics.estimates import Analysis, Estimate
from reports.statistics.ratios import item_score
from reports.statistics.resampling import Array, ClusterSums
from reports.statistics.rows import ReportRow, baseline_of

ClusterNumbers = Mapping[str, int]
"""Question id to cluster number."""


@dataclass(frozen=True)
class StageRow:
    """One method over its stages, on 0-100.

    Args:
        row: Row number within the analysis.
        label: Name shown in the tables.
        stages: Number of stages.
        matrix: ``matrix[i][j]`` is K.A on part j + 1 after stage i, for i = 0 (the untouched base) to ``stages``; None
            where it was not measured.
        so_far: For i = 0 to ``stages`` the mean over the parts up to stage i; over all parts for the base.
        average: Average accuracy.
        forgetting: None with a single stage.
        backward: Backward transfer; None with a single stage.
        names: Of the stages of a task sequence; empty for random parts.
    """

    row: int
    label: str
    stages: int
    matrix: tuple[tuple[Estimate | None, ...], ...]
    so_far: tuple[Estimate | None, ...]
    average: Estimate | None
    forgetting: Estimate | None
    backward: Estimate | None
    names: tuple[str, ...] = ()

    def name(self, stage: int) -> str:
        """What a stage, counted from 1, and its part are called: its name, or its number."""
        return self.names[stage - 1] if self.names else str(stage)


def common_names(rows: Sequence[StageRow]) -> tuple[str, ...]:
    """What the stages are called in all rows: their names, where no row has others, and else their numbers."""
    longest = max(rows, key=lambda row: row.stages)
    agree = all(row.names and row.names == longest.names[: row.stages] for row in rows)
    return longest.names if agree else tuple(str(stage) for stage in range(1, longest.stages + 1))


def average_accuracy(matrix: Array) -> Array:
    """Return the mean of the last row: (..., T, T) to (...)."""
    return np.asarray(matrix[..., -1, :].mean(axis=-1))


def backward_transfer(matrix: Array) -> Array:
    """Return the mean change of each part except the last since its own stage: (..., T, T) to (...); NaN for T = 1."""
    if matrix.shape[-1] < 2:
        return np.full(matrix.shape[:-2], np.nan)
    own = np.diagonal(matrix, axis1=-2, axis2=-1)
    return np.asarray((matrix[..., -1, :-1] - own[..., :-1]).mean(axis=-1))


def forgetting(matrix: Array) -> Array:
    """Return the mean drop of each part except the last from its best: (..., T, T) to (...); NaN for T = 1.

    Entries above the diagonal are ignored.
    """
    count = matrix.shape[-1]
    if count < 2:
        return np.full(matrix.shape[:-2], np.nan)
    best = [matrix[..., part:-1, part].max(axis=-1) for part in range(count - 1)]
    return np.asarray((np.stack(best, axis=-1) - matrix[..., -1, :-1]).mean(axis=-1))


def stage_analysis(analysis: Analysis) -> tuple[StageRow, ...]:
    """Analyse every row whose usable cells completed the same number of stages; empty for a run without stages."""
    clusters = _cluster_numbers(analysis)
    return tuple(
        _stage_row(analysis, number, row, clusters)
        for number, row in enumerate(analysis.rows)
        if row.usable and _completed_same_stages(row.usable)
    )


def _completed_same_stages(cells: Sequence[CellResult]) -> bool:
    count = len(cells[0].stages)
    return count > 0 and all([stage.number for stage in cell.stages] == [*range(1, count + 1)] for cell in cells)


def _names(cells: Sequence[CellResult]) -> tuple[str, ...]:
    """The names of the stages; none if a stage has none, or another one with another seed."""
    names = {tuple(stage.name for stage in cell.stages) for cell in cells}
    (found,) = names if len(names) == 1 else ((),)
    return found if all(found) else ()


def _cluster_numbers(analysis: Analysis) -> dict[str, int]:
    entries = [entry for entry in analysis.run.questions if entry.benchmark == analysis.adaptation]
    names = {name: number for number, name in enumerate(sorted({entry.cluster or entry.id for entry in entries}))}
    return {entry.id: names[entry.cluster or entry.id] for entry in entries}


def _stage_row(analysis: Analysis, number: int, row: ReportRow, clusters: ClusterNumbers) -> StageRow:
    base = baseline_of(row, analysis.rows)
    results = base.results(analysis.adaptation) if base else []
    untouched = {item.question_id: item_score(item.values) for item in results[0].items} if results else {}
    count = len(row.usable[0].stages)
    shape = (count + 1, count)
    sums = [_sums(cell.stages, untouched, clusters) for cell in row.usable]
    seed = resampling.seed_from_name(analysis.adaptation)
    values = 100 * np.stack([cell.scores().reshape(shape) for cell in sums])
    draws = 100 * np.mean(
        [resampling.clustered_bootstrap(cell, seed, resampling.N_BOOTSTRAP).reshape(-1, *shape) for cell in sums],
        axis=0,
    )
    adapted = analysis.main.get((number, summary.KA))
    marks = adapted.marks if adapted else ()
    asked = sums[0].denominators.reshape(-1, *shape)

    def estimate(of_values: Array, of_draws: Array, stage: int = count, parts: slice = slice(None)) -> Estimate | None:
        questions = asked[:, stage, parts].sum(axis=-1)
        return _estimate(of_values, of_draws, int(questions.sum()), int((questions > 0).sum()), marks)

    def score(of_values: Array, of_draws: Array, stage: int = count, parts: slice = slice(None)) -> Estimate | None:
        one = estimate(of_values, of_draws, stage, parts)
        groups = int((asked[:, stage, parts].sum(axis=-1) > 0).sum())
        # If all answers were wrong or all were right, resampling gives no width.
        bounds = resampling.boundary_interval(one.value / 100, groups) if one else None
        return replace(one, low=100 * bounds[0], high=100 * bounds[1]) if one and bounds else one

    lower = np.tril(np.ones((count, count), dtype=bool))
    matrix, resampled = np.where(lower, values[:, 1:], np.nan), np.where(lower, draws[:, 1:], np.nan)
    ends = [count, *range(1, count + 1)]
    return StageRow(
        row=number,
        label=row.label,
        stages=count,
        matrix=tuple(
            tuple(score(values[:, i, j], draws[:, i, j], i, slice(j, j + 1)) for j in range(count))
            for i in range(count + 1)
        ),
        so_far=tuple(
            score(values[:, i, :end].mean(axis=-1), draws[:, i, :end].mean(axis=-1), i, slice(end))
            for i, end in enumerate(ends)
        ),
        average=score(average_accuracy(matrix), average_accuracy(resampled)),
        forgetting=estimate(forgetting(matrix), forgetting(resampled)),
        backward=estimate(backward_transfer(matrix), backward_transfer(resampled)),
        names=_names(row.usable),
    )


def _sums(stages: Sequence[StageResult], untouched: Mapping[str, float], clusters: ClusterNumbers) -> ClusterSums:
    """What each cluster adds to each matrix entry, the base's line first: (clusters, (stages + 1) * stages, 1)."""
    parts = {question: part for part, stage in enumerate(stages) for question in stage.questions}
    size = (max(clusters.values(), default=-1) + 1, len(stages) + 1, len(stages))
    numerators, denominators = np.zeros(size), np.zeros(size)
    for stage, scores in enumerate([untouched, *(stage.adaptation for stage in stages)]):
        for question, score in scores.items():
            if question in parts and question in clusters and math.isfinite(score):
                entry = (clusters[question], stage, parts[question])
                numerators[entry] += score
                denominators[entry] += 1
    flat = (size[0], size[1] * size[2], 1)  # spelled out, since -1 is ambiguous for an empty array
    return ClusterSums(numerators.reshape(flat), denominators.reshape(flat))


def _estimate(values: Array, draws: Array, n: int, clusters: int, marks: tuple[str, ...]) -> Estimate | None:
    """The mean over seeds (seeds,) with the interval of its resamples (draws,); None if a seed has no value."""
    value = float(values.mean()) if len(values) else math.nan
    if not math.isfinite(value):
        return None
    low, high = resampling.percentile_interval(draws, clusters)
    return Estimate(value=value, low=low, high=high, n=n, seeds=tuple(map(float, values)), marks=marks)
