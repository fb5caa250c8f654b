"""What each method did to the base, in a few words: whether it learned, and whether it forgot."""

from __future__ import annotations

import math

from reports.statistics import summary
from reports.statistics.estimates import Analysis, Estimate
from reports.table import TextTable
from reports.text import format_signed, sanitize

HEADS = ("Method", summary.KA, summary.KR1, "Against the untouched base")


def outcome_listing(analysis: Analysis) -> TextTable | None:
    """One line for each row that has an untouched base and both summaries; None if there is none.

    A change counts if it is significant at 5 % after the correction of the main table.
    """
    records = []
    for number, row in enumerate(analysis.rows):
        adaptation, retention = (analysis.main.get((number, key)) for key in (summary.KA, summary.KR1))
        if row.is_baseline or adaptation is None or retention is None:
            continue
        if math.isfinite(adaptation.delta) and math.isfinite(retention.delta):
            changes = (format_signed(one.delta, 1) for one in (adaptation, retention))
            words = f"{_learned(adaptation)} and {_retained(retention)}"
            records.append((sanitize(row.label), *changes, words))
    return TextTable("outcomes", "In short", HEADS, tuple(records)) if records else None


def _learned(adaptation: Estimate) -> str:
    if not adaptation.significant:
        return "did not clearly learn"
    return "learned" if adaptation.delta > 0 else "lost what it knew of the new"


def _retained(retention: Estimate) -> str:
    if not retention.significant:
        return "did not clearly forget"
    return "forgot" if retention.delta < 0 else "gained old abilities"
