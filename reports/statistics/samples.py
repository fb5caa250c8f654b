"""From items to resamples: each benchmark's scores of all rows, aligned by question."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from reports.record import BenchmarkResult, QuestionEntry, Run
from reports.statistics import resampling
from reports.statistics.estimates import Estimate
from reports.statistics.ratios import headline_ratios, metric_ratio
from reports.statistics.resampling import Array, ClusterSums
from reports.statistics.rows import ReportRow

HEADLINE = "headline"
Pairing = tuple[int, int]
"""Two row numbers, the smaller one first."""

_TOLERANCE = 0.02
"""Largest distance, on 0-100, at which the items' mean still counts as equal to the benchmark's own number."""


@dataclass(frozen=True)
class BootstrapSample:
    """One number of one row with its resamples, all on 0-100.

    Args:
        value: The number itself, averaged over seeds.
        draws: (N_BOOTSTRAP,) resampled values.
        n: Questions.
        clusters: Independent groups of questions.
        seeds: The number for each seed.
        bounds: Exact interval if resampling gives none.
        recentred: The items' mean is not the headline, so the draws were shifted onto it.
    """

    value: float
    draws: Array
    n: int
    clusters: int
    seeds: tuple[float, ...]
    bounds: tuple[float, float] | None = None
    recentred: bool = False

    def estimate(self) -> Estimate:
        """Return the number with its 95 % interval; comparisons are added later."""
        low, high = self.bounds or resampling.percentile_interval(self.draws, self.clusters)
        return Estimate(
            value=self.value,
            low=max(0.0, low) if math.isfinite(low) else low,
            high=min(100.0, high) if math.isfinite(high) else high,
            n=self.n,
            seeds=self.seeds,
        )


@dataclass(frozen=True)
class PairedNull:
    """The null distribution of the difference of two rows that answered the same questions, on 0-100.

    Args:
        null: (N_PERMUTATIONS,) differences, first minus second.
        exact_p: McNemar's p value, if it applies.
    """

    null: npt.NDArray[np.float32]
    exact_p: float | None


def metric_value(result: BenchmarkResult, metric: str) -> float:
    """Return a benchmark's own value of a metric on 0-100, or NaN."""
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
        rows: Row numbers within the table.
        numerators: (items, rows, ratios) what each item adds; the mean of the ratios is averaged over seeds.
        denominators: (items, rows, ratios).
        clusters: (items,) cluster numbers.
        reported: For each row the benchmark's own value for each seed, on 0-100.
    """

    rows: tuple[int, ...]
    numerators: Array
    denominators: Array
    clusters: npt.NDArray[np.intp]
    reported: tuple[tuple[float, ...], ...]

    def select(self, items: npt.NDArray[np.bool_]) -> MetricArray:
        """The same rows on some of the items; scores are then computed from those alone."""
        _, clusters = np.unique(self.clusters[items], return_inverse=True)
        return MetricArray(self.rows, self.numerators[items], self.denominators[items], clusters.astype(np.intp), ())


@dataclass(frozen=True)
class PairedBlock:
    """Rows that answered the same questions of one benchmark.

    Args:
        rows: Row numbers within the table.
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

    def metric_array(self, benchmark: str, metric: str) -> MetricArray:
        """Collect one metric of every row's items."""
        types = [self.entries[name].type if name in self.entries else "" for name in self.ids]
        by_seed: list[list[tuple[Array, Array]]] = []
        for results in self.results:
            by_seed.append(seeds := [])
            for result in results:
                by_id = {item.question_id: item.values for item in result.items}
                items = [by_id[name] for name in self.ids]
                if metric == HEADLINE:
                    seeds.append(headline_ratios(benchmark, items, types, metric_value(result, metric)))
                else:
                    seeds.append(metric_ratio(items, metric))
        reported = tuple(tuple(metric_value(result, metric) for result in results) for results in self.results)
        return MetricArray(self.rows, *_join_seeds(by_seed), self.clusters, reported)


def _join_seeds(rows: Sequence[Sequence[tuple[Array, Array]]]) -> tuple[Array, Array]:
    """Average the seeds of each row, so that its score is the mean of theirs.

    If all seeds of a row have the same denominators, their numerators are averaged. Otherwise, as for POPE's F1, each
    seed has ratios of its own, repeated so that every row has the same number of them: a score is the mean of ratios.

    Args:
        rows: For each row and seed the (items, ratios) numerators and denominators.

    Returns:
        (items, rows, ratios) numerators and denominators.
    """
    if all(np.array_equal(below, seeds[0][1]) for seeds in rows for _, below in seeds):
        joined = [(np.mean([above for above, _ in seeds], axis=0), seeds[0][1]) for seeds in rows]
    else:
        count = math.lcm(*map(len, rows))
        repeated = [list(seeds) * (count // len(seeds)) for seeds in rows]
        joined = [
            (
                np.concatenate([above for above, _ in seeds], axis=1),
                np.concatenate([below for _, below in seeds], axis=1),
            )
            for seeds in repeated
        ]
    return np.stack([above for above, _ in joined], axis=1), np.stack([below for _, below in joined], axis=1)


def paired_blocks(run: Run, rows: Sequence[ReportRow], benchmark: str) -> list[PairedBlock]:
    """Group the rows that have this benchmark by the questions that they answered."""
    entries = {question.id: question for question in run.questions if question.benchmark == benchmark}
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, row in enumerate(rows):
        results = row.results(benchmark)
        id_sets = {tuple(sorted(item.question_id for item in result.items)) for result in results}
        if len(id_sets) == 1 and (ids := id_sets.pop()):
            groups.setdefault(ids, []).append(number)
    blocks = []
    for ids, numbers in groups.items():
        names = [(entries[name].cluster if name in entries else "") or f"\0{name}" for name in ids]
        _, clusters = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)
        results_of = tuple(rows[number].results(benchmark) for number in numbers)
        blocks.append(PairedBlock(tuple(numbers), ids, clusters.astype(np.intp), entries, results_of))
    return blocks


def resample(
    metrics: Sequence[MetricArray], seed: str
) -> list[tuple[dict[int, BootstrapSample], dict[Pairing, PairedNull]]]:
    """Draw for each metric the bootstrap sample of each row and the null distribution of each pair of rows.

    Args:
        metrics: Of the same rows on the same questions; they share their resamples.
        seed: Name from which the seed is derived; must differ between benchmarks.
    """
    rows = metrics[0].rows
    sums = ClusterSums.from_items(
        np.concatenate([metric.numerators for metric in metrics], axis=1),
        np.concatenate([metric.denominators for metric in metrics], axis=1),
        metrics[0].clusters,
    )
    draws = resampling.clustered_bootstrap(sums, resampling.seed_from_name(seed), resampling.N_BOOTSTRAP)
    pairs = list(combinations(range(len(rows)), 2))
    width = len(rows)
    columns = [(a + start, b + start) for start in range(0, width * len(metrics), width) for a, b in pairs]
    swap_seed = resampling.seed_from_name(f"swaps of {seed}")
    nulls = resampling.permutation_null(sums, columns, swap_seed, resampling.N_PERMUTATIONS)
    paired = [
        PairedNull((100 * null).astype(np.float32), resampling.mcnemar_p_value(sums, *pair))
        for pair, null in zip(columns, nulls, strict=True)
    ]
    resampled = []
    for place, metric in enumerate(metrics):
        start = place * width
        samples = {row: _sample(metric, column, sums, start, draws) for column, row in enumerate(rows)}
        own = paired[place * len(pairs) : (place + 1) * len(pairs)]
        resampled.append((samples, {(rows[a], rows[b]): null for (a, b), null in zip(pairs, own, strict=True)}))
    return resampled


def _sample(metric: MetricArray, column: int, sums: ClusterSums, start: int, draws: Array) -> BootstrapSample:
    mean = float(sums.scores()[start + column])
    seeds = metric.reported[column] if metric.reported else ()
    value = float(np.mean(seeds)) if seeds else 100 * mean
    gap = value - 100 * mean
    recentred = abs(gap) > _TOLERANCE
    bounds = None if recentred else resampling.boundary_interval(mean, len(sums.numerators))
    return BootstrapSample(
        value=value,
        draws=100 * draws[:, start + column] + (gap if recentred else 0.0),
        n=len(metric.numerators),
        clusters=len(sums.numerators),
        seeds=seeds,
        bounds=(100 * bounds[0], 100 * bounds[1]) if bounds else None,
        recentred=recentred,
    )


def benchmark_names(rows: Iterable[ReportRow]) -> list[str]:
    """Return the names of all benchmarks that any row has, in order of appearance."""
    return list(dict.fromkeys(name for row in rows for cell in row.cells for name in cell.scores))
