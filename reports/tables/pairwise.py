"""Ranked methods against each other, and how often resampling would turn their order round."""

from __future__ import annotations

from reports.model import TextTable
from reports.statistics import resampling as statistics
from reports.statistics.analysis import PAIRED
from reports.statistics.estimates import Analysis, Contrast, Pair
from reports.text import format_signed, p_text, sanitize

HEADS = ("Measure", "Ahead", "Behind", "Lead", "95 % interval", "p", "Order reversed")
NOTES = (
    "Every pair of ranked methods of one model on the same questions. “Order reversed”: how often drawing the "
    "questions anew would put the second method first.",
    "p: paired randomisation test, Holm-corrected over this listing.",
)


def ordered(analysis: Analysis) -> list[tuple[Pair, int, int, Contrast]]:
    """Each pair with the number of the row ahead, that of the row behind, and the lead; the widest leads first."""
    found = []
    for pair in sorted(analysis.pairs, key=lambda pair: (PAIRED.index(pair.measure), -abs(pair.contrast.delta))):
        if pair.contrast.delta >= 0:
            found.append((pair, pair.first, pair.second, pair.contrast))
        else:
            found.append((pair, pair.second, pair.first, pair.contrast.reversed()))
    return found


def pairs_listing(analysis: Analysis) -> TextTable | None:
    """The comparisons, or None where there are not two ranked rows."""
    records = tuple(
        (
            pair.measure,
            sanitize(analysis.rows[first].label),
            sanitize(analysis.rows[second].label),
            format_signed(one.delta),
            f"{format_signed(one.low)} to {format_signed(one.high)}",
            p_text(one.p).removeprefix("p ").removeprefix("= ") + ("*" if one.p < statistics.ALPHA else ""),
            share(one.flip),
        )
        for pair, first, second, one in ordered(analysis)
    )
    return TextTable("pairs", "Method against method", HEADS, records, NOTES) if records else None


def share(value: float) -> str:
    """A share in words that do not claim more than 2,000 resamples can show."""
    return "under 1 %" if 100 * value < 1 else f"{100 * value:.0f} %"
