"""The tables of a run with several injection stages: one line a method, and the whole matrix."""

from __future__ import annotations

from reports.marks import symbol
from reports.statistics.estimates import Analysis, Estimate
from reports.statistics.stages import StageRow, common_names, stage_analysis
from reports.table import Column, Table, TableRow
from reports.text import sanitize

_LAST = "After the last stage"
_SO_FAR = "Mean K.A on the parts so far, after stage"
_PART = "K.A on part"
_LONGEST = 40
"""Characters of a stage's name."""
_ARRIVES = (
    "The knowledge arrives in parts, one after the other; each stage trains on its part alone, from where the stage "
    "before ended. {parts} After each stage the questions about all parts so far are asked."
)
_RANDOM = (
    "Within each type the items are shuffled by the seed and dealt out in turn, so every method with the same seed "
    "gets the same parts."
)
_GIVEN = (
    "The parts are data sets with questions of their own, in the order {names}. They count equally in every mean, "
    "however many questions each has."
)
_NOTES = (
    "Average accuracy: mean over the parts of K.A after the last stage. Backward transfer: mean over the parts but the "
    "last of K.A after the last stage minus K.A right after its own; below 0 where later stages cost what earlier ones "
    "taught (both: Lopez-Paz and Ranzato 2017).",
    "Forgetting: mean over the parts but the last of the best K.A after any stage from its own to the last but one, "
    "minus K.A after the last; lower is better (Chaudhry et al. 2018, who also look at the stages before its own).",
    "Intervals are at 95 %, from bootstrap resamples of the questions. These tables rank nothing.",
)


def stage_tables(analysis: Analysis) -> tuple[Table, ...]:
    """Make the summary and the matrix; nothing for a run without stages."""
    rows = stage_analysis(analysis)
    return (_summary(analysis, rows), _matrix(analysis, rows)) if rows else ()


def _summary(analysis: Analysis, rows: tuple[StageRow, ...]) -> Table:
    """One line a method; a method that did not complete its stages has a line without numbers."""
    names = _names(rows)
    columns = (
        Column("average", "average accuracy", _LAST, "mean over the parts of K.A after the last stage"),
        Column("forgetting", "forgetting", _LAST, "how far the earlier parts fell from their best; lower is better"),
        Column("backward", "backward transfer", _LAST, "how far the earlier parts moved since their own stage"),
        *(
            Column(f"after-{n}", name, _SO_FAR, f"mean K.A on the first {n} parts")
            for n, name in enumerate(names, start=1)
        ),
    )
    by_row = {one.row: one for one in rows}
    lines = []
    for number, row in enumerate(analysis.rows):
        if not row.is_baseline:
            state = ", ".join(sanitize(mark) for mark in row.marks)
            lines.append(TableRow(row.key, sanitize(row.label), _cells(by_row.get(number)), state))
    return Table("stages", f"Knowledge in {len(names)} stages", "Method", columns, tuple(lines), _notes(analysis, rows))


def _cells(one: StageRow | None) -> dict[str, Estimate]:
    if one is None:
        return {}
    cells = {"average": one.average, "forgetting": one.forgetting, "backward": one.backward}
    cells |= {f"after-{number}": mean for number, mean in enumerate(one.so_far) if number}
    return {key: estimate for key, estimate in cells.items() if estimate is not None}


def _matrix(analysis: Analysis, rows: tuple[StageRow, ...]) -> Table:
    """One line a method and stage, the untouched base on the same parts first."""
    columns = tuple(
        Column(f"part-{n}", name, _PART, f"questions about part {name}") for n, name in enumerate(_names(rows), 1)
    )
    lines = []
    for one in rows:
        for stage, values in enumerate(one.matrix):
            label = f"{sanitize(one.label)}, {f'after {_stage(one, stage)}' if stage else 'before the first'}"
            cells = {f"part-{part}": value for part, value in enumerate(values, 1) if value is not None}
            lines.append(
                TableRow(f"{analysis.rows[one.row].key}-stage-{stage}", label, cells, group=sanitize(one.label))
            )
    title = "K.A on each part after each stage"
    return Table("stage-matrix", title, "Stage", columns, tuple(lines), _notes(analysis, rows))


def _names(rows: tuple[StageRow, ...]) -> tuple[str, ...]:
    return tuple(sanitize(name, _LONGEST) for name in common_names(rows))


def _stage(one: StageRow, stage: int) -> str:
    return sanitize(one.name(stage), _LONGEST) if one.names else f"stage {stage}"


def _parts(rows: tuple[StageRow, ...]) -> str:
    """How the parts were made, once for each way."""
    orders = dict.fromkeys(", ".join(sanitize(name, _LONGEST) for name in one.names) for one in rows)
    return " ".join(_GIVEN.format(names=names) if names else _RANDOM for names in orders)


def _notes(analysis: Analysis, rows: tuple[StageRow, ...]) -> tuple[str, ...]:
    marks = dict.fromkeys(mark for one in rows if one.average for mark in one.average.marks)
    return (
        *(sanitize(note, 600) for note in analysis.run.notes),
        _ARRIVES.format(parts=_parts(rows)),
        *_NOTES,
        *(f"{symbol(mark)} {sanitize(mark)}." for mark in marks),
        *([f"Signature: {sanitize(analysis.run.signature, 600)}"] if analysis.run.signature else []),
    )
