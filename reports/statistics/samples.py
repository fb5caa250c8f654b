"""From items to resamples: each benchmark's scores of all rows, lined up by question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from reports.record import BenchmarkResult, QuestionEntry, Run
from reports.statistics import resampling as statistics
from reports.statistics.ratios import metric_ratio, ratios
from reports.statistics.resampling import Array, ClusterSums
from reports.statistics.rows import ReportRow

HEADLINE = "headline"

_SAME = 0.02
"""How far, on 0-100, the value of the items may lie from the benchmark's own number and still be called equal."""


@dataclass(frozen=True)
class BootstrapSample:
    """One number of one row with its resamples, all on 0-100.

    Args:
        value: The number itself, the mean over seeds.
        draws: (DRAWS,) bootstrap values.
        n: Questions.
        clusters: Independent groups of questions.
        seeds: The number for each seed.
        bounds: Exact interval where resampling gives none.
        recentred: The items' mean is not the headline; the draws were moved onto it.
    """

    value: float
    draws: Array
    n: int
    clusters: int
    seeds: tuple[float, ...]
    bounds: tuple[float, float] | None = None
    recentred: bool = False


@dataclass(frozen=True)
class PairedNull:
    """Two rows that answered the same questions, on 0-100.

    Args:
        null: (FLIPS,) differences, first minus second, under the null hypothesis.
        exact_p: McNemar's p value where it applies.
    """

    null: npt.NDArray[np.float32]
    exact_p: float | None


def metric_value(result: BenchmarkResult, metric: str) -> float:
    """A benchmark's own value of a metric on 0-100, or NaN."""
    if metric == HEADLINE:
        return float("nan") if result.headline is None else float(result.headline)
    for name, value in result.metrics.items():
        if name.lower() == metric.lower():
            return float(value)
    return float("nan")


@dataclass(frozen=True)
class MetricArray:
    """One metric of the rows of a block.

    Args:
        rows: Numbers of the rows within the table.
        over: (items, rows, ratios) what each item adds above the line, averaged over seeds.
        under: (items, rows, ratios) below the line.
        clusters: (items,) numbers of the clusters.
        own: For each row the benchmark's own value for each seed, on 0-100.
    """

    rows: tuple[int, ...]
    over: Array
    under: Array
    clusters: npt.NDArray[np.intp]
    own: tuple[tuple[float, ...], ...]

    def only(self, keep: npt.NDArray[np.bool_]) -> MetricArray:
        """The same rows on some of the questions; each number is then that of those."""
        _, clusters = np.unique(self.clusters[keep], return_inverse=True)
        return MetricArray(self.rows, self.over[keep], self.under[keep], clusters.astype(np.intp), ())


@dataclass(frozen=True)
class PairedBlock:
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

    def scores(self, benchmark: str, metric: str) -> MetricArray:
        """Every row's items of one metric."""
        types = [self.entries[one].type if one in self.entries else "" for one in self.ids]
        over, under = [], []
        for results in self.results:
            seeds = []
            for result in results:
                by_id = {item.question_id: item.values for item in result.items}
                items = [by_id[one] for one in self.ids]
                own = metric_value(result, metric)
                whole = metric == HEADLINE
                seeds.append(ratios(benchmark, items, types, own) if whole else metric_ratio(items, metric))
            over.append(np.mean([one for one, _ in seeds], axis=0))
            under.append(np.mean([one for _, one in seeds], axis=0))
        own_values = tuple(tuple(metric_value(result, metric) for result in results) for results in self.results)
        return MetricArray(self.rows, np.stack(over, axis=1), np.stack(under, axis=1), self.clusters, own_values)


def blocks(run: Run, rows: Sequence[ReportRow], benchmark: str) -> list[PairedBlock]:
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
        found.append(PairedBlock(tuple(numbers), ids, clusters.astype(np.intp), entries, results_of))
    return found


def samples(
    metrics: Sequence[MetricArray], seed: str
) -> list[tuple[dict[int, BootstrapSample], dict[tuple[int, int], PairedNull]]]:
    """For each metric a sample of each row, and a match of each two rows.

    Args:
        metrics: Of the same rows on the same questions; they share their resamples.
        seed: Names the draws; benchmarks must differ.
    """
    rows = metrics[0].rows
    sums = ClusterSums.of(
        np.concatenate([one.over for one in metrics], axis=1),
        np.concatenate([one.under for one in metrics], axis=1),
        metrics[0].clusters,
    )
    draws = statistics.bootstrap(sums, statistics.seed_of(seed), statistics.DRAWS)
    pairs = list(combinations(range(len(rows)), 2))
    width = len(rows)
    columns = [(a + at, b + at) for at in range(0, width * len(metrics), width) for a, b in pairs]
    nulls = statistics.permutation_null(sums, columns, statistics.seed_of(f"swaps of {seed}"), statistics.FLIPS)
    matches = [
        PairedNull((100 * null).astype(np.float32), statistics.mcnemar(sums, *pair))
        for pair, null in zip(columns, nulls, strict=True)
    ]
    found = []
    for place, scores in enumerate(metrics):
        at = place * len(rows)
        own = {row: _sample(scores, column, sums, at, draws) for column, row in enumerate(rows)}
        between = matches[place * len(pairs) : (place + 1) * len(pairs)]
        found.append((own, {(rows[a], rows[b]): match for (a, b), match in zip(pairs, between, strict=True)}))
    return found


def _sample(scores: MetricArray, column: int, sums: ClusterSums, at: int, draws: Array) -> BootstrapSample:
    mean = float(sums.value()[at + column])
    own = scores.own[column] if scores.own else ()
    value = float(np.mean(own)) if own else 100 * mean
    gap = value - 100 * mean
    recentred = abs(gap) > _SAME
    bounds = None if recentred else statistics.boundary_interval(mean, len(sums.over))
    return BootstrapSample(
        value=value,
        draws=100 * draws[:, at + column] + (gap if recentred else 0.0),
        n=len(scores.over),
        clusters=len(sums.over),
        seeds=own,
        bounds=(100 * bounds[0], 100 * bounds[1]) if bounds else None,
        recentred=recentred,
    )


def benchmarks_of(rows: Iterable[ReportRow]) -> list[str]:
    """Names of all benchmarks that any row has, in order of appearance."""
    return list(dict.fromkeys(name for row in rows for cell in row.cells for name in cell.scores))
