"""Compute all numbers of a report from the stored items."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np

from benchmarks import aggregate
from reports import statistics, summary
from reports.estimates import Analysis, Estimate, Key, Pair, Slice
from reports.rows import Row, baseline_of, rows_of
from reports.run import UNRANKED, Run
from reports.sampling import HEADLINE, Block, Sample, benchmarks_of, blocks, samples

Samples = dict[Key, Sample]
PAIRED = (summary.KA, summary.KR1, summary.AVG1)
"""Measures on which ranked rows are compared with each other."""


def analyse(run: Run) -> Analysis:
    """Everything that the tables, plots and the page show."""
    rows = rows_of(run)
    baselines = _baselines(rows)
    names = benchmarks_of(rows)
    adaptation = next((name for name in names if summary.canonical(name) not in aggregate.TWELVE), "")
    retention = tuple(
        sorted((n for n in names if n != adaptation and summary.canonical(n) in aggregate.TWELVE), key=_order)
    )
    found: Samples = {}
    type_samples: Samples = {}
    slices: list[Slice] = []
    for name in names:
        for block in blocks(run, rows, name):
            metrics = (summary.CEM, summary.F1) if name == adaptation else (HEADLINE,)
            for metric in metrics:
                part = metric if name == adaptation else summary.canonical(name)
                chosen = samples(block.scores(name, metric), baselines, name)
                found.update({(row, part): sample for row, sample in chosen.items()})
            if name == adaptation:
                _sample_types(name, block, baselines, slices, type_samples)
    main = _summaries(found, rows, baselines)
    marks = _part_marks(rows, adaptation)
    return Analysis(
        run=run,
        rows=rows,
        adaptation=adaptation,
        retention=retention,
        main=_finish({key: _estimate(*key, main, baselines, marks) for key in main}, rows),
        benchmarks=_finish(
            {key: _estimate(*key, found, baselines, marks) for key in found if key[1] in aggregate.TWELVE}, rows
        ),
        types=_finish({key: _estimate(*key, type_samples, baselines, marks) for key in type_samples}, rows),
        slices=tuple(slices),
        pairs=tuple(_pairs(main, rows, marks)),
        recentred=tuple(dict.fromkeys(part for (_, part), sample in found.items() if sample.recentred)),
    )


def _order(name: str) -> int:
    return aggregate.TWELVE.index(summary.canonical(name))


def _baselines(rows: tuple[Row, ...]) -> dict[int, int | None]:
    found = {}
    for number, row in enumerate(rows):
        base = baseline_of(row, rows)
        found[number] = rows.index(base) if base else None
    return found


def _part_marks(rows: tuple[Row, ...], adaptation: str) -> dict[Key, tuple[str, ...]]:
    """Marks of each part in each row: the benchmark's own, and "unjudged" where it has no headline."""
    found: dict[Key, tuple[str, ...]] = {}
    for number, row in enumerate(rows):
        for name in benchmarks_of([row]):
            results = row.results(name)
            own = [mark for result in results for mark in result.marks]
            own += ["unjudged" for result in results if result.headline is None and not result.metrics]
            parts = (summary.CEM, summary.F1) if name == adaptation else (summary.canonical(name),)
            found.update({(number, part): tuple(dict.fromkeys(own)) for part in parts})
    return found


def _summaries(found: Samples, rows: tuple[Row, ...], baselines: Mapping[int, int | None]) -> Samples:
    """Samples of the main table's columns out of those of its parts."""
    main: Samples = {}
    for number in range(len(rows)):
        parts = {part: found[number, part] for part in summary.PARTS if (number, part) in found}
        values = summary.summarise({part: sample.value for part, sample in parts.items()})
        for measure, value in values.items():
            weights = summary.coefficients()[measure]
            if math.isfinite(value):
                main[number, measure] = _combined(measure, value, {part: parts[part] for part in weights})
    for number in range(len(rows)):
        sample = _hars(number, baselines[number], main)
        if sample is not None:
            main[number, summary.HARS] = sample
    return main


def _combined(measure: str, value: float, parts: Mapping[str, Sample]) -> Sample:
    if len(parts) == 1:
        return next(iter(parts.values()))
    draws = summary.combine(measure, {part: sample.draws for part, sample in parts.items()})
    nulls = {part: sample.null for part, sample in parts.items() if sample.null is not None}
    by_seed = {part: np.array(sample.seeds) for part, sample in parts.items()}
    even = len({len(seeds) for seeds in by_seed.values()}) == 1
    seeds = summary.combine(measure, by_seed) if even else None
    distinct = [sample for part, sample in parts.items() if part != summary.F1]  # F1 asks the questions that CEM asks
    return Sample(
        value=value,
        draws=np.array([]) if draws is None else draws,
        null=summary.combine(measure, nulls),
        exact_p=None,
        n=sum(sample.n for sample in distinct),
        clusters=sum(sample.clusters for sample in distinct),
        seeds=() if seeds is None else tuple(map(float, seeds)),
    )


def _hars(number: int, base: int | None, main: Samples) -> Sample | None:
    if base is None or base == number:
        return None
    needed = [main.get((row, measure)) for row in (number, base) for measure in (summary.KA, summary.KR2)]
    adapted, retained, base_adapted, base_retained = needed
    if adapted is None or retained is None or base_adapted is None or base_retained is None:
        return None
    value = aggregate.hars(adapted.value, retained.value, base_adapted.value, base_retained.value)
    if value is None:
        return None
    draws = summary.hars(adapted.draws, retained.draws, base_adapted.draws, base_retained.draws)
    return Sample(value, draws, None, None, adapted.n + retained.n, adapted.clusters + retained.clusters, ())


def _estimate(
    number: int, measure: str, found: Samples, baselines: Mapping[int, int | None], marks: Mapping[Key, tuple[str, ...]]
) -> Estimate:
    sample = found[number, measure]
    low, high = sample.bounds or statistics.interval(sample.draws, sample.clusters)
    estimate = Estimate(
        value=sample.value,
        low=max(0.0, low) if math.isfinite(low) else low,
        high=min(100.0, high) if math.isfinite(high) else high,
        n=sample.n,
        seeds=sample.seeds,
        marks=_marks_of(number, measure, marks),
    )
    base = baselines[number]
    reference = found.get((base, measure)) if base is not None and base != number else None
    if reference is None or sample.null is None:
        return estimate
    differences = sample.draws - reference.draws
    delta = sample.value - reference.value
    delta_low, delta_high = statistics.interval(differences, sample.clusters)
    return replace(
        estimate,
        delta=delta,
        delta_low=delta_low,
        delta_high=delta_high,
        p=statistics.p_value(delta, sample.null) if sample.exact_p is None else sample.exact_p,
        resolution=statistics.smallest_difference(differences),
    )


def _marks_of(number: int, measure: str, marks: Mapping[Key, tuple[str, ...]]) -> tuple[str, ...]:
    parts: Iterable[str] = summary.coefficients().get(measure, {measure: 1.0})
    if measure == summary.HARS:
        parts = summary.PARTS
    return tuple(dict.fromkeys(mark for part in parts for mark in marks.get((number, part), ())))


def _finish(estimates: dict[Key, Estimate], rows: tuple[Row, ...]) -> dict[Key, Estimate]:
    """Correct the p values over the whole table and rank what may be ranked, within each model."""
    keys = list(estimates)
    corrected = statistics.holm(np.array([estimates[key].p for key in keys], dtype=np.float64))
    finished = {key: replace(estimates[key], p=float(p)) for key, p in zip(keys, corrected, strict=True)}
    for measure in dict.fromkeys(measure for _, measure in keys):
        for model in dict.fromkeys(row.first.model for row in rows):
            able = [
                (number, measure)
                for number, row in enumerate(rows)
                if row.first.model == model and (number, measure) in finished and row.ranked
                and math.isfinite(finished[number, measure].value)
                and not set(finished[number, measure].marks) & set(UNRANKED)
            ]  # fmt: skip
            shown = sorted({round(finished[key].value, 2) for key in able}, reverse=True)
            for key in able if len(able) > 1 else []:
                place = shown.index(round(finished[key].value, 2)) + 1
                finished[key] = replace(finished[key], rank=place if place <= 2 else 0)
    return finished


def _sample_types(
    name: str, block: Block, baselines: Mapping[int, int | None], slices: list[Slice], found: Samples
) -> None:
    """Each group and each type of the adaptation benchmark, resampled on its own."""
    of = [block.entries.get(one) for one in block.ids]
    groups = np.array([entry.group if entry else "" for entry in of])
    types = np.array([entry.type if entry else "" for entry in of])
    scores = {metric: block.scores(name, metric) for metric in (summary.CEM, summary.F1)}
    for group in sorted(set(groups), key=lambda one: (one != "news", one)):
        inside = groups == group
        names = sorted(set(types[inside]), key=lambda one: (-int(np.sum(inside & (types == one))), one))
        for kind in [None, *names]:
            keep = inside if kind is None else inside & (types == kind)
            key = f"{group}/{kind if kind is not None else ''}"
            part = Slice(key, group, kind or "", int(keep.sum()))
            if part not in slices:
                slices.append(part)
            for metric, whole in scores.items():
                chosen = samples(whole.only(keep), baselines, key)
                found.update({(row, f"{key}/{metric}"): sample for row, sample in chosen.items()})


def _pairs(main: Samples, rows: tuple[Row, ...], marks: Mapping[Key, tuple[str, ...]]) -> list[Pair]:
    """Ranked rows of one model against each other, by the bootstrap of their difference; Holm-corrected."""
    found = []
    for measure in PAIRED:
        able = [
            number for number, row in enumerate(rows)
            if row.ranked and (number, measure) in main and not set(_marks_of(number, measure, marks)) & set(UNRANKED)
        ]  # fmt: skip
        for first, second in combinations(able, 2):
            if rows[first].first.model != rows[second].first.model:
                continue
            one, other = main[first, measure], main[second, measure]
            if one.n != other.n:
                continue
            draws = one.draws - other.draws
            difference = one.value - other.value
            low, high = statistics.interval(draws, one.clusters)
            p, flip = statistics.bootstrap_p(difference, draws), statistics.flip_rate(draws, difference)
            found.append(Pair(measure, first, second, difference, low, high, p, flip))
    corrected = statistics.holm(np.array([pair.p for pair in found], dtype=np.float64))
    return [replace(pair, p=float(p)) for pair, p in zip(found, corrected, strict=True)]
