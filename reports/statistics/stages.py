"""Knowledge that arrives in stages: what was learnt at each, and what was left of it in the end.

R[i, j] is K.A on the questions about part j after stage i. A part's questions are first asked after its own stage, so R
is known on and below the diagonal alone. The three numbers made of it:

- average accuracy: the mean of the last row (Lopez-Paz and Ranzato 2017, "Gradient Episodic Memory for Continual
  Learning", equation 2);
- backward transfer: the mean over the parts but the last of R[T, j] - R[j, j] (the same, equation 3); negative where
  later stages cost what earlier ones taught;
- forgetting: the mean over the parts but the last of max over j <= l < T of R[l, j], minus R[T, j] (Chaudhry et al.
  2018, "Riemannian Walk for Incremental Learning", equation 3). There the maximum also runs over the stages before the
  part's own, whose values are not known here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reports.record import CellResult, StageResult
from reports.statistics import resampling as statistics
from reports.statistics import summary
from reports.statistics.estimates import Analysis, Estimate
from reports.statistics.ratios import item_score
from reports.statistics.resampling import Array, ClusterSums
from reports.statistics.rows import ReportRow, baseline_of

Numbered = Mapping[str, int]
"""Question id to the number of its cluster."""


@dataclass(frozen=True)
class StageRow:
    """One method over its stages; all on 0-100.

    Args:
        row: Its number within the analysis.
        label: As the tables show it.
        stages: How many.
        matrix: ``matrix[i][j]``: K.A on part j + 1 after stage i, for i = 0 (the untouched base) to ``stages``; None
            where it was not asked.
        so_far: For i = 0 to ``stages`` the mean over the parts up to stage i; over all parts for the base.
        average: Average accuracy.
        forgetting: None with a single stage.
        backward: Backward transfer; None with a single stage.
    """

    row: int
    label: str
    stages: int
    matrix: tuple[tuple[Estimate | None, ...], ...]
    so_far: tuple[Estimate | None, ...]
    average: Estimate | None
    forgetting: Estimate | None
    backward: Estimate | None


def average_accuracy(matrix: Array) -> Array:
    """(..., T, T) to (...): the mean of the last row."""
    return np.asarray(matrix[..., -1, :].mean(axis=-1))


def backward_transfer(matrix: Array) -> Array:
    """(..., T, T) to (...): how far each part but the last moved since its own stage, on average; NaN for T = 1."""
    if matrix.shape[-1] < 2:
        return np.full(matrix.shape[:-2], np.nan)
    own = np.diagonal(matrix, axis1=-2, axis2=-1)
    return np.asarray((matrix[..., -1, :-1] - own[..., :-1]).mean(axis=-1))


def forgetting(matrix: Array) -> Array:
    """(..., T, T) to (...): how far each part but the last fell from its best, on average; NaN for T = 1.

    What stands above the diagonal is not looked at.
    """
    count = matrix.shape[-1]
    if count < 2:
        return np.full(matrix.shape[:-2], np.nan)
    best = [matrix[..., part:-1, part].max(axis=-1) for part in range(count - 1)]
    return np.asarray((np.stack(best, axis=-1) - matrix[..., -1, :-1]).mean(axis=-1))


def stage_analysis(analysis: Analysis) -> tuple[StageRow, ...]:
    """Every row whose usable cells went through the same number of stages; none for a run without stages."""
    numbers = _clusters(analysis)
    return tuple(
        _stage_row(analysis, number, row, numbers)
        for number, row in enumerate(analysis.rows)
        if row.usable and _stages(row.usable) is not None
    )


def _stages(cells: Sequence[CellResult]) -> int | None:
    """The number of stages that all the cells went through."""
    counts = {len(cell.stages) for cell in cells}
    whole = all([stage.number for stage in cell.stages] == list(range(1, len(cell.stages) + 1)) for cell in cells)
    return counts.pop() if whole and len(counts) == 1 and counts != {0} else None


def _clusters(analysis: Analysis) -> dict[str, int]:
    """A number for each group of dependent questions, by question."""
    asked = [entry for entry in analysis.run.questions if entry.benchmark == analysis.adaptation]
    names = {name: number for number, name in enumerate(sorted({entry.cluster or entry.id for entry in asked}))}
    return {entry.id: names[entry.cluster or entry.id] for entry in asked}


def _stage_row(analysis: Analysis, number: int, row: ReportRow, clusters: Numbered) -> StageRow:
    base = baseline_of(row, analysis.rows)
    results = base.results(analysis.adaptation) if base else []
    untouched = {item.question_id: item_score(item.values) for item in results[0].items} if results else {}
    sums = [_sums(cell.stages, untouched, clusters) for cell in row.usable]
    seed = statistics.seed_of(analysis.adaptation)
    values = 100 * np.stack([one.value().reshape(_shape(one)) for one in sums])
    draws = 100 * np.mean(
        [statistics.bootstrap(one, seed, statistics.DRAWS).reshape(-1, *_shape(one)) for one in sums], axis=0
    )
    known = analysis.main.get((number, summary.KA))
    marks = known.marks if known else ()
    count = values.shape[-1]
    asked = sums[0].under.reshape(len(sums[0].under), count + 1, count)

    def made(of_values: Array, of_draws: Array, line: int = count, parts: slice = slice(None)) -> Estimate | None:
        behind = asked[:, line, parts].sum(axis=-1)
        return _estimate(of_values, of_draws, int(behind.sum()), int((behind > 0).sum()), marks)

    def score(of_values: Array, of_draws: Array, line: int = count, parts: slice = slice(None)) -> Estimate | None:
        one, groups = made(of_values, of_draws, line, parts), int((asked[:, line, parts].sum(axis=-1) > 0).sum())
        # Where all was wrong or all was right, resampling knows nothing.
        bounds = statistics.boundary_interval(one.value / 100, groups) if one else None
        return replace(one, low=100 * bounds[0], high=100 * bounds[1]) if one and bounds else one

    below = np.tril(np.ones((count, count), dtype=bool))
    matrix, drawn = np.where(below, values[:, 1:], np.nan), np.where(below, draws[:, 1:], np.nan)
    upto = [count, *range(1, count + 1)]
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
            for i, end in enumerate(upto)
        ),
        average=score(average_accuracy(matrix), average_accuracy(drawn)),
        forgetting=made(forgetting(matrix), forgetting(drawn)),
        backward=made(backward_transfer(matrix), backward_transfer(drawn)),
    )


def _sums(stages: Sequence[StageResult], untouched: Mapping[str, float], clusters: Numbered) -> ClusterSums:
    """What each cluster adds to each entry, the base's row first: (clusters, (stages + 1) * stages, 1)."""
    parts = {question: part for part, stage in enumerate(stages) for question in stage.questions}
    size = (max(clusters.values(), default=-1) + 1, len(stages) + 1, len(stages))
    over, under = np.zeros(size), np.zeros(size)
    for line, scores in enumerate([untouched, *(stage.adaptation for stage in stages)]):
        for question, score in scores.items():
            if question in parts and question in clusters and math.isfinite(score):
                place = (clusters[question], line, parts[question])
                over[place] += score
                under[place] += 1
    flat = (size[0], size[1] * size[2], 1)  # named, for there may be no cluster at all
    return ClusterSums(over.reshape(flat), under.reshape(flat))


def _shape(sums: ClusterSums) -> tuple[int, int]:
    """(stages + 1, stages), from the number of their products."""
    stages = math.isqrt(sums.over.shape[1])
    return stages + 1, stages


def _estimate(values: Array, draws: Array, n: int, clusters: int, marks: tuple[str, ...]) -> Estimate | None:
    """The mean over seeds (seeds,) with the interval of its resamples (draws,); None where a seed has no value."""
    value = float(values.mean()) if len(values) else math.nan
    if not math.isfinite(value):
        return None
    low, high = statistics.interval(draws, clusters)
    return Estimate(value=value, low=low, high=high, n=n, seeds=tuple(map(float, values)), marks=marks)
