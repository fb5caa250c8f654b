"""Notes on answers that could not be read or were cut: how many there are, and what they may explain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import fmean

from reports.marks import TRUNCATED, UNREAD
from reports.statistics.editing import other_items
from reports.statistics.estimates import Analysis, Estimate, Key
from reports.statistics.readings import APART, MARKED_ABOVE, differing, share_items
from reports.statistics.rows import baseline_of
from reports.text import format_number, format_signed, join_words, sanitize

MOST = 24
"""Numbers that one note lists; the CSV and JSON files hold them all."""


def reading_notes(analysis: Analysis, estimates: Mapping[Key, Estimate], table: str) -> list[str]:
    """The notes below a table; none if every answer was read and whole, and the lenient reading changes no number."""
    own = {} if table == "types" else estimates
    return [
        *_shares(analysis, own, UNREAD),
        *_shares(analysis, own, TRUNCATED),
        *_thinking(analysis),
        *_lenient(analysis, estimates),
        *_differences(analysis, estimates),
    ]


def pair_notes(analysis: Analysis) -> tuple[str, ...]:
    """The same for methods that are compared with each other."""
    numbers = [
        (pair, analysis.main[pair.first, pair.measure], analysis.main[pair.second, pair.measure])
        for pair in analysis.pairs
    ]
    return comparison_note(
        (f"{_label(analysis, pair.first)} and {_label(analysis, pair.second)}", pair.measure, one, other)
        for pair, one, other in numbers
    )


def comparison_note(compared: Iterable[tuple[str, str, Estimate, Estimate]]) -> tuple[str, ...]:
    """Say which numbers that are compared differ in their shares by more than ``APART`` points, if any do.

    Args:
        compared: Name of the two rows, measure, and the number of each.
    """
    found: dict[str, list[str]] = {}
    for rows, measure, one, other in compared:
        gaps = [f"{name} {format_signed(gap, 1)}" for name, gap in differing(one, other).items()]
        if gaps:
            found.setdefault(rows, []).append(f"{measure} {', '.join(gaps)}")
    if not found:
        return ()
    texts = [f"{rows} ({'; '.join(gaps)})" for rows, gaps in found.items()]
    return (
        f"The share of unread or cut answers differs by more than {APART:.0f} points, so that a difference may come "
        f"from how answers are written: {_first(texts)}.",
    )


def _shares(analysis: Analysis, estimates: Mapping[Key, Estimate], name: str) -> list[str]:
    """One share of each row over all of its answers, and of each column in which it is marked."""
    rows = []
    for number, row in enumerate(analysis.rows):
        items = [item for cell in row.usable for item in other_items(cell)]
        whole = getattr(share_items(items), name) if items else 0.0
        marked = [
            f"{measure} {getattr(one, name):.1f}"
            for (owner, measure), one in estimates.items()
            if owner == number and getattr(one, name) > MARKED_ABOVE
        ]
        if whole:
            rows.append(f"{_label(analysis, number)} {whole:.1f}" + (f" ({', '.join(marked)})" if marked else ""))
    note = f"Share of {name} answers in percent, with each column above {MARKED_ABOVE:.0f}: {'; '.join(rows)}."
    return [note] if rows else []


def _thinking(analysis: Analysis) -> list[str]:
    """The share of answers from which a thinking block was cut, of each row and each benchmark that has any."""
    rows = []
    for number, row in enumerate(analysis.rows):
        names = dict.fromkeys(name for cell in row.usable for name in cell.scores)
        items = {name: [item for result in row.results(name) for item in result.items] for name in names}
        shares = {name: 100 * fmean(item.thinking for item in found) for name, found in items.items() if found}
        every = [item.thinking for found in items.values() for item in found]
        parts = [f"{name} {share:.1f}" for name, share in shares.items() if share]
        if parts:
            rows.append(f"{_label(analysis, number)} {100 * fmean(every):.1f} ({', '.join(parts)})")
    note = f"Share of answers in percent from which a thinking block was cut before scoring: {'; '.join(rows)}."
    return [note] if rows else []


def _lenient(analysis: Analysis, estimates: Mapping[Key, Estimate]) -> list[str]:
    changed = [
        (abs(one.lenient - one.value), f"{_label(analysis, number)} {measure} {format_number(one.lenient)}")
        for (number, measure), one in estimates.items()
        if math.isfinite(one.lenient) and format_number(one.lenient) != format_number(one.value)
    ]
    if not changed:
        return []
    listed = [text for _, text in sorted(changed, key=lambda pair: -pair[0])]
    return [
        "Read leniently (a bare letter, or yes or no; else what the answer states last; beside the official number, "
        f"never instead of it): {_first(listed)}."
    ]


def _differences(analysis: Analysis, estimates: Mapping[Key, Estimate]) -> tuple[str, ...]:
    bases = {
        number: analysis.rows.index(base)
        for number, row in enumerate(analysis.rows)
        if (base := baseline_of(row, analysis.rows)) is not None
    }
    return comparison_note(
        (f"{_label(analysis, number)} and the base", measure, one, estimates[bases[number], measure])
        for (number, measure), one in estimates.items()
        if number in bases and math.isfinite(one.delta) and (bases[number], measure) in estimates
    )


def _first(texts: list[str]) -> str:
    more = len(texts) - MOST
    return join_words(texts) if more <= 0 else f"{', '.join(texts[:MOST])} and {more} more"


def _label(analysis: Analysis, number: int) -> str:
    return sanitize(analysis.rows[number].label)
