"""What the numbers say, in plain words: who learned most, who kept most, and whether it is more than noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reports.statistics import resampling as statistics
from reports.statistics import summary
from reports.statistics.estimates import Analysis, Pair
from reports.text import format_number, join_words, sanitize

NAMED = 3
"""Names that one sentence holds."""


@dataclass(frozen=True)
class Finding:
    """One statement: what it is about, who or what, and the sentences."""

    topic: str
    subject: str
    text: str


def verdict(analysis: Analysis) -> tuple[Finding, ...]:
    """Statements made from the numbers alone, the most important first; never empty."""
    if not analysis.rows:
        return (Finding("Result", "Nothing yet", "This run has no cells: nothing was trained or answered."),)
    methods = [row for row in analysis.rows if not row.is_baseline]
    if not methods:
        return (Finding("Result", "The base alone", "This run holds only the untouched base; no method was compared."),)
    found = [
        _leader(analysis, summary.KA, "Learned most", "adaptation (K.A)"),
        _leader(analysis, summary.KR1, "Kept most", "retention (K.R)"),
        _leader(analysis, summary.AVG1, "Best balance", "the mean of both (Avg)"),
    ]
    said = [one for one in found if one is not None]
    return tuple(said + _left_out(analysis, bool(said)))


def _leader(analysis: Analysis, measure: str, topic: str, name: str) -> Finding | None:
    able = [number for number, row in enumerate(analysis.rows) if row.ranked and (number, measure) in analysis.main]
    models = {analysis.rows[number].first.model for number in able}
    able.sort(key=lambda number: -analysis.main[number, measure].value)
    if not able or len(models) > 1 or not math.isfinite(analysis.main[able[0], measure].value):
        return None
    best = able[0]
    one = analysis.main[best, measure]
    interval = f" [{format_number(one.low, 1)}, {format_number(one.high, 1)}]" if math.isfinite(one.low) else ""
    text = f"{format_number(one.value, 1)}{interval} on {name}"
    if math.isfinite(one.delta):
        side = "above" if one.delta >= 0 else "below"
        noise = "" if one.significant else ", which may be noise"
        text += f", {format_number(abs(one.delta), 1)} points {side} the untouched base{noise}"
    label = sanitize(analysis.rows[best].label)
    if measure == summary.KA and math.isfinite(one.delta) and not (one.significant and one.delta > 0):
        return Finding(topic, "No method, clearly", f"The best, {label}, reaches {text}.")
    return Finding(topic, label, f"{text}. {_followers(analysis, measure, best, able)}".strip())


def _followers(analysis: Analysis, measure: str, best: int, able: list[int]) -> str:
    if len(able) < 2:
        return "No other method can be ranked beside it." if measure == summary.AVG1 else ""
    pairs = {frozenset((pair.first, pair.second)): pair for pair in analysis.pairs if pair.measure == measure}
    close = [n for n in able[1:] if (pair := pairs.get(frozenset((best, n)))) and not _apart(pair)]
    if not any(frozenset((best, number)) in pairs for number in able[1:]):
        return "It cannot be tested against the other methods, which answered other questions."
    if not close:
        return "Its lead over every other method is statistically significant."
    flips = [100 * pairs[frozenset((best, number))].contrast.flip for number in close]
    names = join_words(_few([sanitize(analysis.rows[number].label) for number in close]))
    share = f"{max(flips):.0f} %" if max(flips) >= 1 else "under 1 %"
    return (
        f"Its lead over {names} is not significant: drawing the questions anew would reverse "
        f"{'the order' if len(close) == 1 else 'at least one order'} in {share} of cases."
    )


def _few(names: list[str]) -> list[str]:
    """The first names, and how many more there are."""
    return names if len(names) <= NAMED + 1 else [*names[:NAMED], f"{len(names) - NAMED} others"]


def _apart(pair: Pair) -> bool:
    return pair.contrast.p < statistics.ALPHA


def _left_out(analysis: Analysis, any_ranked: bool) -> list[Finding]:
    out = [row for row in analysis.rows if not row.is_baseline and not row.ranked]
    found = []
    if out:
        names = join_words(_few([sanitize(row.label) for row in out]))
        reasons = join_words(list(dict.fromkeys(sanitize(mark) for row in out for mark in row.marks)))
        found.append(Finding("Not ranked", names, f"Marked {reasons}; shown below, but no winner can be named."))
    if not any_ranked and not out:
        found.append(
            Finding("Result", "No summary", "Benchmarks that a summary needs are missing, or there are several models.")
        )
    seeds = {len(row.usable) for row in analysis.rows if row.ranked}
    if any_ranked and seeds == {1}:
        found.append(
            Finding("Caution", "One training seed", "Another seed may move scores by more than the intervals.")
        )
    return found
