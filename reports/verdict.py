"""What the numbers say, in plain words: who learned most, who kept most, and whether it is more than noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reports import statistics, summary
from reports.estimates import Analysis, Pair
from reports.text import fixed, listed, plain, signed


@dataclass(frozen=True)
class Finding:
    """One statement: what it is about, and the sentences."""

    topic: str
    text: str


def verdict(analysis: Analysis) -> tuple[Finding, ...]:
    """Statements made from the numbers alone, the most important first; never empty."""
    if not analysis.rows:
        return (Finding("Nothing yet", "This run has no finished cell."),)
    methods = [row for row in analysis.rows if not row.is_baseline]
    if not methods:
        return (Finding("Baseline only", "This run holds only the untouched base; no method was compared."),)
    found = [
        _leader(analysis, summary.KA, "Learned most", "adaptation, K.A"),
        _leader(analysis, summary.KR1, "Kept most", "retention, K.R"),
        _leader(analysis, summary.AVG1, "Best balance", "mean of the two, Avg"),
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
    interval = f" [{fixed(one.low, 1)}, {fixed(one.high, 1)}]" if math.isfinite(one.low) else ""
    label = plain(analysis.rows[best].label)
    text = f"{label}, with {fixed(one.value, 1)}{interval} ({name})"
    if math.isfinite(one.delta):
        noise = "" if one.significant else ", which is within noise"
        text += f": {signed(one.delta, 1)} points against the untouched base{noise}"
    return Finding(topic, f"{text}. {_followers(analysis, measure, best, able)}".strip())


def _followers(analysis: Analysis, measure: str, best: int, able: list[int]) -> str:
    if len(able) < 2:
        return "It is the only ranked method."
    pairs = {frozenset((pair.first, pair.second)): pair for pair in analysis.pairs if pair.measure == measure}
    close = [n for n in able[1:] if (pair := pairs.get(frozenset((best, n)))) and not _apart(pair)]
    if not any(frozenset((best, number)) in pairs for number in able[1:]):
        return "It cannot be tested against the other methods, which answered other questions."
    if not close:
        return "Its lead over every other method is statistically significant."
    flips = [100 * pairs[frozenset((best, number))].flip for number in close]
    names = listed([plain(analysis.rows[number].label) for number in close])
    share = f"{max(flips):.0f} %" if max(flips) >= 1 else "under 1 %"
    return (
        f"Its lead over {names} is not significant: drawing the questions anew would reverse "
        f"{'the order' if len(close) == 1 else 'at least one order'} in {share} of cases."
    )


def _apart(pair: Pair) -> bool:
    return pair.p < statistics.ALPHA


def _left_out(analysis: Analysis, any_ranked: bool) -> list[Finding]:
    out = [row for row in analysis.rows if not row.is_baseline and not row.ranked]
    found = []
    if out:
        names = [f"{plain(row.label)} ({', '.join(map(plain, row.marks))})" for row in out]
        found.append(Finding("Not ranked", f"{listed(names)}."))
    if not any_ranked and not out:
        found.append(Finding("No summary", "The run lacks benchmarks that a summary needs, or holds several models."))
    seeds = {len(row.usable) for row in analysis.rows if row.ranked}
    if any_ranked and seeds == {1}:
        found.append(Finding("Caution", "One training seed: another may move scores by more than the intervals."))
    return found
