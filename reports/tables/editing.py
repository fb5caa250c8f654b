"""The table of editing's measures: one line a method, one column a measure."""

from __future__ import annotations

from benchmarks.editing import (
    GENERALITY_IMAGE,
    GENERALITY_TEXT,
    LOCALITY_IMAGE,
    LOCALITY_TEXT,
    PORTABILITY,
)
from reports.statistics.editing import AGREEMENT, JUDGED, editing_name, ordered_measures
from reports.statistics.estimates import Analysis
from reports.statistics.samples import benchmark_names
from reports.table import Column, Table, TableRow
from reports.tables.notes import common_notes
from reports.text import join_words, sanitize

KEY = "editing"
TITLES = {
    GENERALITY_TEXT: ("T-Gen", "Generality", "CEM of the question in other words, on its own picture"),
    GENERALITY_IMAGE: ("I-Gen", "Generality", "CEM of the same question on another picture"),
    LOCALITY_TEXT: (
        "T-Loc",
        "Locality",
        "share of the base's own answers kept: text-only questions about other things",
    ),
    LOCALITY_IMAGE: ("I-Loc", "Locality", "share of the base's own answers kept: other things, with their pictures"),
    JUDGED: ("K.A, judged", "Judge", "share of the answers about new knowledge that the judge finds correct"),
    AGREEMENT: ("judge = CEM", "Judge", "share of these answers on which the judge and CEM say the same"),
}
"""Title, group and meaning of each measure's column. T and I stand for text and image, as in VLKEB's tables."""
ABSENT = {
    "generality by other words": (GENERALITY_TEXT, "rephrase"),
    "generality by another picture": (GENERALITY_IMAGE, "image_rephrase"),
    "portability": (PORTABILITY, "port_new"),
    "text locality": (LOCALITY_TEXT, "loc"),
    "image locality": (LOCALITY_IMAGE, "m_loc"),
}
"""By name: the measure, and the column of the data that it needs."""
_NOTES = (
    "Generality, portability and locality are those of MMEdit (Cheng et al. 2023) and VLKEB (Huang et al. 2024), "
    "with two differences: all edits are made at once, and the model writes its own answers, where EasyEdit (Wang "
    "et al. 2023) and VLKEB give it the reference and compare the most probable token at each position.",
    "Generality and portability: CEM, the share of answers that contain the reference, when the question is put "
    "in other words, is asked on another picture, or needs one or more further hops. Their reliability, the "
    "question as it is, is CEM of the main table.",
    "Locality: share of questions about things that were not injected to which the answer equals the untouched "
    "base's own after CEM's normalisation, right or wrong. The base keeps its own answers by definition and is "
    "compared with no row.",
)


def editing_table(analysis: Analysis) -> Table | None:
    """Make the table; None for a run that was not asked for these measures."""
    name = editing_name(benchmark_names(analysis.rows))
    if not name:
        return None
    found = {measure for _, measure in analysis.editing}
    measures = [
        *ordered_measures(list(found - {JUDGED, AGREEMENT})),
        *(one for one in (JUDGED, AGREEMENT) if one in found),
    ]
    lines = []
    for number, row in enumerate(analysis.rows):
        cells = {measure: one for (owner, measure), one in analysis.editing.items() if owner == number}
        state = "baseline" if row.is_baseline else ", ".join(sanitize(mark) for mark in row.marks)
        lines.append(TableRow(row.key, sanitize(row.label), cells, state))
    columns = tuple(map(_column, measures))
    return Table(KEY, "Editing measures", "Method", columns, tuple(lines), _notes(analysis, name, measures))


def _column(measure: str) -> Column:
    if measure in TITLES:
        return Column(measure, *TITLES[measure])
    kind = sanitize(measure.partition("/")[2])
    return Column(
        measure, f"Port {kind}", "Portability", f"CEM of questions whose answer follows from new knowledge: {kind}"
    )


def _notes(analysis: Analysis, name: str, measures: list[str]) -> tuple[str, ...]:
    groups = {measure.partition("/")[0] for measure in measures} | set(measures)
    absent = [f"{title} (“{column}”)" for title, (measure, column) in ABSENT.items() if measure not in groups]
    notes = [*common_notes(analysis, analysis.editing), *_NOTES, *_judge_notes(analysis, measures)]
    if absent:
        notes.append(f"Not measured, since the data have no such questions: {join_words(absent)}.")
    unscored = [sanitize(row.label) for row in analysis.rows if row.usable and not row.results(name)]
    if unscored:
        notes.append(f"{join_words(unscored)}: these questions were not asked.")
    if not any(row.is_baseline and row.usable for row in analysis.rows):
        notes.append("No locality: this run has no answers of the untouched base.")
    if analysis.run.signature:
        notes.append(f"Signature: {sanitize(analysis.run.signature, 600)}")
    return tuple(dict.fromkeys(notes))


def _judge_notes(analysis: Analysis, measures: list[str]) -> list[str]:
    """Which judge judged, or that none did."""
    results = [result for row in analysis.rows for result in row.results(analysis.adaptation)]
    notes = list(dict.fromkeys(sanitize(note, 600) for result in results for note in result.notes if result.judge))
    if JUDGED not in measures:
        return [*notes, "No K.A by a judge: that needs a language model (--judge openai:MODEL or local:FOLDER)."]
    judges = join_words(list(dict.fromkeys(sanitize(result.judge) for result in results if result.judge)))
    text = f"K.A by a judge: {judges} is asked of each answer about new knowledge whether it states the reference."
    return [text, *(f"{note}." for note in notes)]
