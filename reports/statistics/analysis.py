"""Compute all numbers of a report from the stored items.

``analyse`` is the path of every number: items -> resamples (``samples``) -> summaries such as Avg (``summary``) ->
contrasts with p values (``contrasts``) -> estimates with intervals, marks and ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from benchmarks import aggregate
from reports.marks import UNJUDGED, UNRANKED
from reports.record import Run
from reports.statistics import summary
from reports.statistics.contrasts import SampleSet, apply_holm, combine_nulls, compute_contrasts, contrasts_with
from reports.statistics.editing import AGREEMENT, editing_name, editing_samples
from reports.statistics.estimates import Analysis, Contrast, Estimate, Key, Pair
from reports.statistics.readings import add_readings, add_slice_readings
from reports.statistics.rows import ReportRow, baseline_of, build_rows
from reports.statistics.samples import HEADLINE, BootstrapSample, benchmark_names, paired_blocks, resample
from reports.statistics.types import TypeBreakdown

PAIRED = (summary.KA, summary.KR1, summary.AVG1)
"""Measures on which ranked rows are compared with each other."""
Contrasts = dict[tuple[int, int, str], Contrast]


def analyse(run: Run) -> Analysis:
    """Compute everything that the tables, plots and the page show."""
    rows = build_rows(run)
    names = benchmark_names(rows)
    further = tuple(name for name in run.further if name in names)
    editing = editing_name(names)
    own = [name for name in names if name not in (*further, editing)]
    adaptation = next((name for name in own if summary.canonical(name) not in aggregate.TWELVE), "")
    known = [name for name in own if summary.canonical(name) in aggregate.TWELVE]
    retention = tuple(sorted(known, key=lambda name: aggregate.TWELVE.index(summary.canonical(name))))
    parts, types = SampleSet(), TypeBreakdown()
    for name in [*([adaptation] if adaptation else []), *retention, *further]:
        for block in paired_blocks(run, rows, name):
            keys = (summary.CEM, summary.F1) if name == adaptation else (HEADLINE,)
            metrics = {key: block.metric_array(name, key) for key in keys}
            for key, (samples, nulls) in zip(keys, resample(list(metrics.values()), name), strict=True):
                parts.add(key if name == adaptation else summary.canonical(name), samples, nulls)
            if name == adaptation:
                types.add(block, metrics)
    baselines = _baselines(rows)
    main = _summarize(parts, rows, baselines)
    single = parts.select((*aggregate.TWELVE, *further))
    marks = _part_marks(rows, adaptation)
    edits = editing_samples(run, rows, editing, adaptation, baselines)
    raw = (compute_contrasts(main), compute_contrasts(single), types.contrasts, edits.contrasts())
    against = {
        base: {key: contrast for table in raw for key, contrast in contrasts_with(base, table).items()}
        for base in range(len(rows))
    }
    compared = [
        {key: _compare(*key, one, against, baselines, marks) for key, one in table.items()}
        for table in (main.estimates(), single.estimates(), types.estimates, edits.estimates())
    ]
    read = [add_readings(table, rows, adaptation) for table in compared[:2]]
    slices = add_slice_readings(compared[2], rows, adaptation, run)
    tables = [_rank(table, rows) for table in (*read, slices, compared[3])]
    return Analysis(
        run=run,
        rows=rows,
        adaptation=adaptation,
        retention=retention,
        further=further,
        main=tables[0],
        benchmarks=tables[1],
        types=tables[2],
        editing=tables[3],
        slices=tuple(types.slices),
        pairs=tuple(_ranked_pairs(raw[0], rows, marks)),
        against=against,
        raw={key: contrast for table in raw for key, contrast in table.items()},
        covariances=_covariances(main, len(rows)),
        recentred=tuple(dict.fromkeys(part for (_, part), sample in parts.samples.items() if sample.recentred)),
    )


def _covariances(main: SampleSet, rows: int) -> dict[int, tuple[float, float, float]]:
    """How adaptation and retention vary together under resampling."""
    covariances = {}
    for row in range(rows):
        pair = [main.samples.get((row, measure)) for measure in (summary.KA, summary.KR1)]
        draws = [sample.draws for sample in pair if sample is not None]
        if len(draws) == 2:
            (xx, xy), (_, yy) = np.cov(np.stack(draws))
            covariances[row] = (float(xx), float(xy), float(yy))
    return covariances


def _baselines(rows: tuple[ReportRow, ...]) -> dict[int, int | None]:
    bases = [baseline_of(row, rows) for row in rows]
    return {number: rows.index(base) if base else None for number, base in enumerate(bases)}


def _part_marks(rows: tuple[ReportRow, ...], adaptation: str) -> dict[Key, tuple[str, ...]]:
    """Marks of each part in each row: the benchmark's own, and "unjudged" if it has no headline."""
    marks: dict[Key, tuple[str, ...]] = {}
    for number, row in enumerate(rows):
        for name in benchmark_names([row]):
            results = row.results(name)
            own = [mark for result in results for mark in result.marks]
            own += [UNJUDGED for result in results if result.headline is None and not result.metrics]
            parts = (summary.CEM, summary.F1) if name == adaptation else (summary.canonical(name),)
            marks.update({(number, part): tuple(dict.fromkeys(own)) for part in parts})
    return marks


def _summarize(parts: SampleSet, rows: tuple[ReportRow, ...], baselines: Mapping[int, int | None]) -> SampleSet:
    """Samples and null distributions of the main table's columns from those of their parts."""
    main = SampleSet()
    for number in range(len(rows)):
        own = {part: parts.samples[number, part] for part in summary.PARTS if (number, part) in parts.samples}
        for measure, value in summary.summarize({part: sample.value for part, sample in own.items()}).items():
            if math.isfinite(value):
                weights = summary.coefficients()[measure]
                main.samples[number, measure] = _combine(measure, value, {part: own[part] for part in weights})
    for measure in dict.fromkeys(measure for _, measure in main.samples):
        main.nulls[measure] = combine_nulls(parts, measure)
    for number in range(len(rows)):
        sample = _hars(number, baselines[number], main.samples)
        if sample is not None:
            main.samples[number, summary.HARS] = sample
    return main


def _combine(measure: str, value: float, parts: Mapping[str, BootstrapSample]) -> BootstrapSample:
    if len(parts) == 1:
        return next(iter(parts.values()))
    draws = summary.combine(measure, {part: sample.draws for part, sample in parts.items()})
    by_seed = {part: np.array(sample.seeds) for part, sample in parts.items()}
    same_seeds = len({len(seeds) for seeds in by_seed.values()}) == 1
    seeds = summary.combine(measure, by_seed) if same_seeds else None
    # Where no part varies in its resamples, the same sum of their exact bounds is wide enough.
    ends = summary.combine(measure, {part: np.array(sample.bounds) for part, sample in parts.items() if sample.bounds})
    distinct = [sample for part, sample in parts.items() if part != summary.F1]  # F1 has the same questions as CEM
    return BootstrapSample(
        value=value,
        draws=np.array([]) if draws is None else draws,
        n=sum(sample.n for sample in distinct),
        clusters=sum(sample.clusters for sample in distinct),
        seeds=() if seeds is None else tuple(map(float, seeds)),
        bounds=None if ends is None else (float(ends[0]), float(ends[1])),
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


def _compare(
    number: int,
    measure: str,
    one: Estimate,
    against: Mapping[int, Mapping[Key, Contrast]],
    baselines: Mapping[int, int | None],
    marks: Mapping[Key, tuple[str, ...]],
) -> Estimate:
    """Add to an estimate its marks and its difference from the untouched base."""
    one = replace(one, marks=_marks_of(number, measure, marks))
    base = baselines[number]
    contrast = None if base is None else against[base].get((number, measure))
    if contrast is None:
        return one
    return replace(
        one,
        delta=contrast.delta,
        delta_low=contrast.low,
        delta_high=contrast.high,
        p=contrast.p,
        resolution=contrast.resolution,
    )


def _marks_of(number: int, measure: str, marks: Mapping[Key, tuple[str, ...]]) -> tuple[str, ...]:
    parts: Iterable[str] = summary.coefficients().get(measure, {measure: 1.0})
    if measure == summary.HARS:
        parts = summary.PARTS
    return tuple(dict.fromkeys(mark for part in parts for mark in marks.get((number, part), ())))


def _rank(estimates: dict[Key, Estimate], rows: tuple[ReportRow, ...]) -> dict[Key, Estimate]:
    """Rank what may be ranked, within each model."""
    ranked = dict(estimates)
    columns: dict[tuple[str, str], list[Key]] = {}
    for (number, measure), one in estimates.items():
        is_score = measure != AGREEMENT and math.isfinite(one.value)
        if rows[number].ranked and is_score and not set(one.marks) & set(UNRANKED):
            columns.setdefault((measure, rows[number].first.model), []).append((number, measure))
    for keys in columns.values():
        values = sorted({round(ranked[key].value, 2) for key in keys}, reverse=True)
        for key in keys if len(keys) > 1 else []:
            place = values.index(round(ranked[key].value, 2)) + 1
            ranked[key] = replace(ranked[key], rank=place if place <= 2 else 0)
    return ranked


def _ranked_pairs(raw: Contrasts, rows: tuple[ReportRow, ...], marks: Mapping[Key, tuple[str, ...]]) -> list[Pair]:
    """Ranked rows of one model against each other; Holm-corrected over all of these tests."""
    chosen = {
        (first, second, measure): contrast
        for (first, second, measure), contrast in raw.items()
        if measure in PAIRED
        and rows[first].first.model == rows[second].first.model
        and all(rows[row].ranked and not set(_marks_of(row, measure, marks)) & set(UNRANKED) for row in (first, second))
    }
    corrected = apply_holm(chosen)
    return [Pair(measure, first, second, contrast) for (first, second, measure), contrast in corrected.items()]
