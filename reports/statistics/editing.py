"""Editing's measures as samples: generality and portability by CEM, locality against the base, verdicts of a judge.

``benchmarks.editing`` says whose definitions they follow. Each measure is resampled on its own, in whole clusters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from benchmarks.answer_judge import VERDICT
from benchmarks.editing import EDITING, LOCALITY_IMAGE, LOCALITY_TEXT, PORTABILITY, is_kept
from reports.record import CellResult, ItemResult, Run
from reports.statistics import summary
from reports.statistics.contrasts import SampleSet, compute_contrasts
from reports.statistics.estimates import Contrast, Estimate, Key
from reports.statistics.resampling import Array
from reports.statistics.rows import ReportRow
from reports.statistics.samples import MetricArray, PairedBlock, paired_blocks, resample

JUDGED, AGREEMENT = "judged", "judge agrees with CEM"
"""Measures made of a judge's verdicts on the adaptation benchmark."""
LOCALITY = (LOCALITY_TEXT, LOCALITY_IMAGE)
Values = Callable[[int, ItemResult], float]
"""Row number and item to a value in [0, 1]."""
Contrasts = Mapping[tuple[int, int, str], Contrast]


@dataclass(frozen=True)
class EditingSamples:
    """The samples of all measures, and the rows that they are of."""

    parts: SampleSet
    rows: tuple[ReportRow, ...]

    def estimates(self) -> dict[Key, Estimate]:
        """All numbers. The base keeps its own answers by definition, which is no estimate and has no interval."""
        return {
            key: replace(one, low=np.nan, high=np.nan) if key[1] in LOCALITY and self.rows[key[0]].is_baseline else one
            for key, one in self.parts.estimates().items()
        }

    def contrasts(self) -> Contrasts:
        """Every row against every other; without those in which one of the two is right by definition."""
        return {
            (first, second, measure): contrast
            for (first, second, measure), contrast in compute_contrasts(self.parts).items()
            if measure not in LOCALITY or not any(self.rows[row].is_baseline for row in (first, second))
        }


def editing_name(names: Sequence[str]) -> str:
    """The name of editing's measures among those of a run's benchmarks; empty if they were not asked for."""
    return next((name for name in names if summary.canonical(name) == EDITING), "")


def other_items(cell: CellResult) -> list[ItemResult]:
    """The items of all benchmarks but editing's, which have a table of their own."""
    results = [result for name, result in cell.scores.items() if summary.canonical(name) != EDITING]
    return [item for result in results for item in result.items]


def editing_samples(
    run: Run, rows: tuple[ReportRow, ...], name: str, adaptation: str, baselines: Mapping[int, int | None]
) -> EditingSamples:
    """Sample every measure that the run has questions for.

    Args:
        run: The record.
        rows: The rows of the tables.
        name: The benchmark with the questions; empty if the run has none.
        adaptation: The benchmark that a judge may have judged.
        baselines: For each row the number of its untouched base.
    """
    parts = SampleSet()
    for block in paired_blocks(run, rows, name) if name else ():
        groups = np.array([block.entries[each].group if each in block.entries else "" for each in block.ids])
        for measure in ordered_measures(groups.tolist()):
            asked = _select(block, groups == measure)
            if measure in LOCALITY:
                _add_locality(parts, measure, asked, rows, baselines, name)
            else:
                _add(parts, measure, asked, lambda _, item: item.values.get(summary.CEM, 0.0), name)
    for block in paired_blocks(run, rows, adaptation) if name and adaptation else ():
        judged = [all(VERDICT in item.values for result in each for item in result.items) for each in block.results]
        if any(judged):
            chosen = _keep_rows(block, judged)
            _add(parts, JUDGED, chosen, lambda _, item: item.values[VERDICT], adaptation)
            _add(parts, AGREEMENT, chosen, _agrees, adaptation)
            parts.nulls.pop(AGREEMENT, None)  # a judge that agrees with CEM more often is no better row
    return EditingSamples(parts, rows)


def ordered_measures(found: Sequence[str]) -> list[str]:
    """The measures in the order of the columns: generality, portability by the number of hops, locality."""
    places = {PORTABILITY: 1, "locality": 2}
    names = {name for name in found if name}
    return sorted(names, key=lambda name: (places.get(name.partition("/")[0], 0), _part(name)))


def _part(measure: str) -> tuple[int, int, str]:
    """Text before image; hops by their number."""
    part = measure.partition("/")[2]
    number = re.match(r"\d+", part)
    return int(part != "text"), int(number[0]) if number else 0, part


def _agrees(_: int, item: ItemResult) -> float:
    return float(item.values[VERDICT] == item.values.get(summary.CEM))


def _add_locality(
    parts: SampleSet,
    measure: str,
    block: PairedBlock,
    rows: tuple[ReportRow, ...],
    baselines: Mapping[int, int | None],
    name: str,
) -> None:
    """The share of the base's own answers that each row keeps; only rows whose base answered the same questions."""
    answers = {row: _answers(results[0].items) for row, results in zip(block.rows, block.results, strict=True)}
    base_of = {row: row if rows[row].is_baseline else baselines[row] for row in block.rows}
    known = [base_of[row] in answers for row in block.rows]

    def kept(row: int, item: ItemResult) -> float:
        base = base_of[row]
        before = None if base is None else answers[base][item.question_id]
        whole = before is not None and "failed" not in (before.status, item.status)
        return float(before is not None and whole and is_kept(item.answer, before.answer))

    if any(known):
        _add(parts, measure, _keep_rows(block, known), kept, name)


def _answers(items: Sequence[ItemResult]) -> dict[str, ItemResult]:
    return {item.question_id: item for item in items}


def _add(parts: SampleSet, measure: str, block: PairedBlock, value: Values, seed: str) -> None:
    """Resample one measure of a block."""
    numerators, reported = [], []
    for row, results in zip(block.rows, block.results, strict=True):
        of_seed = [_values(block, row, _answers(result.items), value) for result in results]
        numerators.append(np.mean(of_seed, axis=0))
        reported.append(tuple(100 * float(each.mean()) for each in of_seed))
    stacked = np.stack(numerators, axis=1)[:, :, np.newaxis]
    array = MetricArray(block.rows, stacked, np.ones_like(stacked), block.clusters, tuple(reported))
    (samples, nulls) = resample([array], f"{seed}/{measure}")[0]
    parts.add(measure, samples, nulls)


def _values(block: PairedBlock, row: int, items: Mapping[str, ItemResult], value: Values) -> Array:
    return np.array([value(row, items[name]) for name in block.ids], dtype=np.float64)


def _select(block: PairedBlock, chosen: Sequence[bool]) -> PairedBlock:
    """The same rows on some of the questions."""
    places = np.flatnonzero(chosen)
    _, clusters = np.unique(block.clusters[places], return_inverse=True)
    ids = tuple(block.ids[place] for place in places)
    return replace(block, ids=ids, clusters=clusters.astype(np.intp))


def _keep_rows(block: PairedBlock, chosen: Sequence[bool]) -> PairedBlock:
    """Some of the rows on the same questions."""
    return replace(
        block,
        rows=tuple(compress(block.rows, chosen)),
        results=tuple(compress(block.results, chosen)),
    )
