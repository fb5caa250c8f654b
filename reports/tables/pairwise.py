"""Ranked methods against each other, and how often resampling would turn their order round."""

from __future__ import annotations

from reports.model import Listing
from reports.statistics import resampling as statistics
from reports.statistics.analysis import PAIRED
from reports.statistics.estimates import Analysis, Contrast, Pair
from reports.text import p_text, plain, signed

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


def pairs_listing(analysis: Analysis) -> Listing | None:
    """The comparisons, or None where there are not two ranked rows."""
    records = tuple(
        (
            pair.measure,
            plain(analysis.rows[first].label),
            plain(analysis.rows[second].label),
            signed(one.delta),
            f"{signed(one.low)} to {signed(one.high)}",
            p_text(one.p).removeprefix("p ").removeprefix("= ") + ("*" if one.p < statistics.ALPHA else ""),
            share(one.flip),
        )
        for pair, first, second, one in ordered(analysis)
    )
    return Listing("pairs", "Method against method", HEADS, records, NOTES) if records else None


def share(value: float) -> str:
    """A share in words that do not claim more than 2,000 resamples can show."""
    return "under 1 %" if 100 * value < 1 else f"{100 * value:.0f} %"
