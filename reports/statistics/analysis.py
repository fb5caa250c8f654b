"""Compute all numbers of a report from the stored items."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from benchmarks import aggregate
from reports.record import UNRANKED, Run
from reports.statistics import summary
from reports.statistics.contrasts import SampleSet, against, combined, contrasts, correct
from reports.statistics.estimates import Analysis, Contrast, Estimate, Key, Pair
from reports.statistics.rows import ReportRow, baseline_of, rows_of
from reports.statistics.samples import HEADLINE, BootstrapSample, benchmarks_of, blocks, samples
from reports.statistics.types import TypeBreakdown, estimate, sample_types

PAIRED = (summary.KA, summary.KR1, summary.AVG1)
"""Measures on which ranked rows are compared with each other."""
Contrasts = dict[tuple[int, int, str], Contrast]


def analyse(run: Run) -> Analysis:
    """Everything that the tables, plots and the page show."""
    rows = rows_of(run)
    names = benchmarks_of(rows)
    adaptation = next((name for name in names if summary.canonical(name) not in aggregate.TWELVE), "")
    retention = tuple(sorted((n for n in names if summary.canonical(n) in aggregate.TWELVE), key=_order))
    parts, types = SampleSet(), TypeBreakdown()
    for name in [adaptation, *retention] if adaptation else retention:
        for block in blocks(run, rows, name):
            metrics = (summary.CEM, summary.F1) if name == adaptation else (HEADLINE,)
            scores = [block.scores(name, metric) for metric in metrics]
            for metric, (own, matches) in zip(metrics, samples(scores, name), strict=True):
                parts.add(metric if name == adaptation else summary.canonical(name), own, matches)
            if name == adaptation:
                sample_types(block, metrics, scores, types)
    baselines = _baselines(rows)
    main = _summaries(parts, rows, baselines)
    single = parts.only(aggregate.TWELVE)
    marks = _part_marks(rows, adaptation)
    raw = (contrasts(main), contrasts(single), types.contrasts)
    found = {
        base: {key: one for table in raw for key, one in against(table, base).items()} for base in range(len(rows))
    }
    estimated = [
        _finish({key: _judged(*key, one, found, baselines, marks) for key, one in table.items()}, rows)
        for table in (_estimates(main.samples), _estimates(single.samples), types.estimates)
    ]
    return Analysis(
        run=run,
        rows=rows,
        adaptation=adaptation,
        retention=retention,
        main=estimated[0],
        benchmarks=estimated[1],
        types=estimated[2],
        slices=tuple(types.slices),
        pairs=tuple(_pairs(raw[0], rows, marks)),
        against=found,
        raw={key: one for table in raw for key, one in table.items()},
        clouds=_clouds(main, len(rows)),
        recentred=tuple(dict.fromkeys(part for (_, part), sample in parts.samples.items() if sample.recentred)),
    )


def _clouds(main: SampleSet, rows: int) -> dict[int, tuple[float, float, float]]:
    """How adaptation and retention vary together under resampling."""
    found = {}
    for row in range(rows):
        pair = [main.samples.get((row, measure)) for measure in (summary.KA, summary.KR1)]
        draws = [sample.draws for sample in pair if sample is not None]
        if len(draws) == 2:
            (xx, xy), (_, yy) = np.cov(np.stack(draws))
            found[row] = (float(xx), float(xy), float(yy))
    return found


def _order(name: str) -> int:
    return aggregate.TWELVE.index(summary.canonical(name))


def _baselines(rows: tuple[ReportRow, ...]) -> dict[int, int | None]:
    found = {}
    for number, row in enumerate(rows):
        base = baseline_of(row, rows)
        found[number] = rows.index(base) if base else None
    return found


def _part_marks(rows: tuple[ReportRow, ...], adaptation: str) -> dict[Key, tuple[str, ...]]:
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


def _summaries(parts: SampleSet, rows: tuple[ReportRow, ...], baselines: Mapping[int, int | None]) -> SampleSet:
    """Samples and matches of the main table's columns out of those of its parts."""
    main = SampleSet()
    for number in range(len(rows)):
        own = {part: parts.samples[number, part] for part in summary.PARTS if (number, part) in parts.samples}
        for measure, value in summary.summarise({part: sample.value for part, sample in own.items()}).items():
            if math.isfinite(value):
                weights = summary.coefficients()[measure]
                main.samples[number, measure] = _combined(measure, value, {part: own[part] for part in weights})
    for measure in dict.fromkeys(measure for _, measure in main.samples):
        main.matches[measure] = combined(parts, measure)
    for number in range(len(rows)):
        sample = _hars(number, baselines[number], main.samples)
        if sample is not None:
            main.samples[number, summary.HARS] = sample
    return main


def _combined(measure: str, value: float, parts: Mapping[str, BootstrapSample]) -> BootstrapSample:
    if len(parts) == 1:
        return next(iter(parts.values()))
    draws = summary.combine(measure, {part: sample.draws for part, sample in parts.items()})
    by_seed = {part: np.array(sample.seeds) for part, sample in parts.items()}
    even = len({len(seeds) for seeds in by_seed.values()}) == 1
    seeds = summary.combine(measure, by_seed) if even else None
    distinct = [sample for part, sample in parts.items() if part != summary.F1]  # F1 asks the questions that CEM asks
    return BootstrapSample(
        value=value,
        draws=np.array([]) if draws is None else draws,
        n=sum(sample.n for sample in distinct),
        clusters=sum(sample.clusters for sample in distinct),
        seeds=() if seeds is None else tuple(map(float, seeds)),
    )


def _hars(number: int, base: int | None, main: Mapping[Key, BootstrapSample]) -> BootstrapSample | None:
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
    return BootstrapSample(value, draws, adapted.n + retained.n, adapted.clusters + retained.clusters, ())


def _estimates(found: Mapping[Key, BootstrapSample]) -> dict[Key, Estimate]:
    return {key: estimate(sample) for key, sample in found.items()}


def _judged(
    number: int,
    measure: str,
    one: Estimate,
    found: Mapping[int, Mapping[Key, Contrast]],
    baselines: Mapping[int, int | None],
    marks: Mapping[Key, tuple[str, ...]],
) -> Estimate:
    """The estimate with its marks and its difference to the untouched base."""
    one = replace(one, marks=_marks_of(number, measure, marks))
    base = baselines[number]
    there = None if base is None else found[base].get((number, measure))
    if there is None:
        return one
    return replace(
        one, delta=there.delta, delta_low=there.low, delta_high=there.high, p=there.p, resolution=there.resolution
    )


def _marks_of(number: int, measure: str, marks: Mapping[Key, tuple[str, ...]]) -> tuple[str, ...]:
    parts: Iterable[str] = summary.coefficients().get(measure, {measure: 1.0})
    if measure == summary.HARS:
        parts = summary.PARTS
    return tuple(dict.fromkeys(mark for part in parts for mark in marks.get((number, part), ())))


def _finish(estimates: dict[Key, Estimate], rows: tuple[ReportRow, ...]) -> dict[Key, Estimate]:
    """Rank what may be ranked, within each model."""
    finished = dict(estimates)
    columns: dict[tuple[str, str], list[Key]] = {}
    for (number, measure), one in estimates.items():
        if rows[number].ranked and math.isfinite(one.value) and not set(one.marks) & set(UNRANKED):
            columns.setdefault((measure, rows[number].first.model), []).append((number, measure))
    for able in columns.values():
        shown = sorted({round(finished[key].value, 2) for key in able}, reverse=True)
        for key in able if len(able) > 1 else []:
            place = shown.index(round(finished[key].value, 2)) + 1
            finished[key] = replace(finished[key], rank=place if place <= 2 else 0)
    return finished


def _pairs(raw: Contrasts, rows: tuple[ReportRow, ...], marks: Mapping[Key, tuple[str, ...]]) -> list[Pair]:
    """Ranked rows of one model against each other; Holm-corrected over all of these tests."""
    chosen = {
        (first, second, measure): one
        for (first, second, measure), one in raw.items()
        if measure in PAIRED
        and rows[first].first.model == rows[second].first.model
        and all(rows[row].ranked and not set(_marks_of(row, measure, marks)) & set(UNRANKED) for row in (first, second))
    }
    return [Pair(measure, first, second, one) for (first, second, measure), one in correct(chosen).items()]
