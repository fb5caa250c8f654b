"""From items to resamples: each benchmark's scores of all rows, lined up by question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports import statistics
from reports.rows import Row
from reports.run import BenchmarkResult, QuestionEntry, Run
from reports.statistics import Array, ClusterSums

HEADLINE = "headline"

_SAME = 0.02
"""How far, on 0-100, the items' mean may lie from the benchmark's own number and still be called equal."""


@dataclass(frozen=True)
class Sample:
    """One number of one row with its resamples, all on 0-100.

    Args:
        value: The number itself, the mean over seeds.
        draws: (DRAWS,) bootstrap values.
        null: (FLIPS,) differences to the baseline under the null hypothesis; None where they cannot be paired.
        exact_p: McNemar's p value where it applies.
        n: Questions.
        clusters: Independent groups of questions.
        seeds: The number for each seed.
        bounds: Exact interval where resampling gives none.
        recentred: The items' mean is not the headline; the draws were moved onto it.
    """

    value: float
    draws: Array
    null: Array | None
    exact_p: float | None
    n: int
    clusters: int
    seeds: tuple[float, ...]
    bounds: tuple[float, float] | None = None
    recentred: bool = False


def item_value(values: Mapping[str, float], metric: str) -> float:
    """One item's value of a metric, whatever its case; for the headline ``score``, or else the mean of all."""
    if metric == HEADLINE:
        if "score" in values:
            return values["score"]
        rest = [value for name, value in values.items() if name != "weight"]
        return float(np.mean(rest)) if rest else float("nan")
    for name, value in values.items():
        if name.lower() == metric.lower():
            return value
    return float("nan")


def metric_value(result: BenchmarkResult, metric: str) -> float:
    """A benchmark's own value of a metric on 0-100, or NaN."""
    if metric == HEADLINE:
        return float("nan") if result.headline is None else float(result.headline)
    for name, value in result.metrics.items():
        if name.lower() == metric.lower():
            return float(value)
    return float("nan")


@dataclass(frozen=True)
class Scores:
    """One metric of the rows of a block.

    Args:
        rows: Numbers of the rows within the table.
        values: (items, rows) in 0-1, averaged over seeds.
        weights: (items,).
        clusters: (items,) numbers of the clusters.
        own: For each row the benchmark's own value for each seed, on 0-100.
    """

    rows: tuple[int, ...]
    values: Array
    weights: Array
    clusters: npt.NDArray[np.intp]
    own: tuple[tuple[float, ...], ...]

    def only(self, keep: npt.NDArray[np.bool_]) -> Scores:
        """The same rows on some of the questions; each number is then the mean of those."""
        _, clusters = np.unique(self.clusters[keep], return_inverse=True)
        return Scores(self.rows, self.values[keep], self.weights[keep], clusters.astype(np.intp), ())


@dataclass(frozen=True)
class Block:
    """Rows that answered the same questions of one benchmark.

    Args:
        rows: Numbers of the rows within the table.
        ids: Question ids, in a common order.
        clusters: (items,) cluster numbers.
        entries: The questions by id.
        results: For each row its results, one for each seed.
    """

    rows: tuple[int, ...]
    ids: tuple[str, ...]
    clusters: npt.NDArray[np.intp]
    entries: Mapping[str, QuestionEntry]
    results: tuple[list[BenchmarkResult], ...]

    def scores(self, metric: str) -> Scores:
        """Every row's item values of one metric."""
        columns = []
        weights = np.ones(len(self.ids))
        for results in self.results:
            seeds = []
            for result in results:
                by_id = {item.question_id: item.values for item in result.items}
                seeds.append([item_value(by_id[one], metric) for one in self.ids])
                if metric == HEADLINE:
                    weights = np.array([by_id[one].get("weight", 1.0) for one in self.ids], dtype=np.float64)
            columns.append(np.mean(np.array(seeds, dtype=np.float64), axis=0))
        values = np.array(columns, dtype=np.float64).T.reshape(len(self.ids), len(self.results))
        own = tuple(tuple(metric_value(result, metric) for result in results) for results in self.results)
        return Scores(self.rows, values, weights, self.clusters, own)


def blocks(run: Run, rows: Sequence[Row], benchmark: str) -> list[Block]:
    """Group the rows that have this benchmark by the questions that they answered."""
    entries = {question.id: question for question in run.questions if question.benchmark == benchmark}
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, row in enumerate(rows):
        results = row.results(benchmark)
        sets = {tuple(sorted(item.question_id for item in result.items)) for result in results}
        if len(sets) == 1 and (ids := sets.pop()):
            groups.setdefault(ids, []).append(number)
    found = []
    for ids, numbers in groups.items():
        names = [(entries[one].cluster if one in entries else "") or f"\0{one}" for one in ids]
        _, clusters = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)
        results_of = tuple(rows[number].results(benchmark) for number in numbers)
        found.append(Block(tuple(numbers), ids, clusters.astype(np.intp), entries, results_of))
    return found


def samples(scores: Scores, baselines: Mapping[int, int | None], seed: str) -> dict[int, Sample]:
    """A sample for each row.

    Args:
        scores: One metric of rows on the same questions.
        baselines: For each row the number of its baseline row.
        seed: Names the draws; benchmarks must differ, metrics of one benchmark must share.
    """
    sums = ClusterSums.of(scores.values, scores.weights, scores.clusters)
    means = sums.mean()
    draws = statistics.bootstrap(sums, statistics.seed_of(seed), statistics.DRAWS)
    place = {number: column for column, number in enumerate(scores.rows)}
    paired = {place[number]: place[base] for number in place if (base := baselines[number]) in place and base != number}
    differences = np.zeros_like(sums.scores)
    for column, base in paired.items():
        differences[:, column] = sums.scores[:, column] - sums.scores[:, base]
    total, flips = float(sums.weights.sum()), statistics.FLIPS
    null = statistics.sign_flips(differences, total, statistics.seed_of(f"flips of {seed}"), flips)
    found = {}
    for column, number in enumerate(scores.rows):
        mean = float(means[column])
        own = scores.own[column] if scores.own else ()
        value = float(np.mean(own)) if own else 100 * mean
        gap = value - 100 * mean
        recentred = abs(gap) > _SAME
        bounds = None if recentred else statistics.boundary_interval(mean, len(sums.weights))
        found[number] = Sample(
            value=value,
            draws=100 * draws[:, column] + (gap if recentred else 0.0),
            null=100 * null[:, column] if column in paired else None,
            exact_p=statistics.mcnemar(differences[:, column]) if column in paired else None,
            n=len(scores.values),
            clusters=len(sums.weights),
            seeds=own,
            bounds=(100 * bounds[0], 100 * bounds[1]) if bounds else None,
            recentred=recentred,
        )
    return found


def benchmarks_of(rows: Iterable[Row]) -> list[str]:
    """Names of all benchmarks that any row has, in order of appearance."""
    return list(dict.fromkeys(name for row in rows for cell in row.cells for name in cell.scores))
