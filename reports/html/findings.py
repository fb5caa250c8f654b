"""The main findings in words: which method learned most, which retained most, and whether the leads are significant."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reports.statistics import resampling, summary
from reports.statistics.estimates import Analysis
from reports.text import format_number, join_words, sanitize

MAX_NAMES = 3
"""Names in one sentence before the rest are counted."""


@dataclass(frozen=True)
class Finding:
    """One statement: its topic, the method or thing it is about, and the sentences."""

    topic: str
    subject: str
    text: str


def summarize_findings(analysis: Analysis) -> tuple[Finding, ...]:
    """Derive statements from the numbers alone, the most important first; never empty."""
    if not analysis.rows:
        return (Finding("Result", "Nothing yet", "This run has no cells: nothing was trained or answered."),)
    methods = [row for row in analysis.rows if not row.is_baseline]
    if not methods:
        return (Finding("Result", "The base alone", "This run holds only the untouched base; no method was compared."),)
    leaders = [
        _leader(analysis, summary.KA, "Learned most", "adaptation (K.A)"),
        _leader(analysis, summary.KR1, "Kept most", "retention (K.R)"),
        _leader(analysis, summary.AVG1, "Best balance", "the mean of both (Avg)"),
    ]
    findings = [finding for finding in leaders if finding is not None]
    return tuple(findings + _caveats(analysis, bool(findings)))


def _leader(analysis: Analysis, measure: str, topic: str, name: str) -> Finding | None:
    ranked = [number for number, row in enumerate(analysis.rows) if row.ranked and (number, measure) in analysis.main]
    models = {analysis.rows[number].first.model for number in ranked}
    ranked.sort(key=lambda number: -analysis.main[number, measure].value)
    if not ranked or len(models) > 1 or not math.isfinite(analysis.main[ranked[0], measure].value):
        return None
    best = ranked[0]
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
    return Finding(topic, label, f"{text}. {_compare_with_others(analysis, measure, ranked)}".strip())


def _compare_with_others(analysis: Analysis, measure: str, ranked: list[int]) -> str:
    """Whether the lead of the first of ``ranked`` over the others is significant."""
    best, *others = ranked
    if not others:
        return "No other method can be ranked beside it." if measure == summary.AVG1 else ""
    pairs = {frozenset((pair.first, pair.second)): pair for pair in analysis.pairs if pair.measure == measure}
    tested = [number for number in others if frozenset((best, number)) in pairs]
    if not tested:
        return "It cannot be tested against the other methods, which answered other questions."
    close = [n for n in tested if not pairs[frozenset((best, n))].contrast.p < resampling.ALPHA]
    if not close:
        return "Its lead over every other method is statistically significant."
    flips = [100 * pairs[frozenset((best, number))].contrast.flip for number in close]
    names = join_words(_abbreviate([sanitize(analysis.rows[number].label) for number in close]))
    share = f"{max(flips):.0f} %" if max(flips) >= 1 else "under 1 %"
    return (
        f"Its lead over {names} is not significant: drawing the questions anew would reverse "
        f"{'the order' if len(close) == 1 else 'at least one order'} in {share} of cases."
    )


def _abbreviate(names: list[str]) -> list[str]:
    """The first names and the number of others."""
    return names if len(names) <= MAX_NAMES + 1 else [*names[:MAX_NAMES], f"{len(names) - MAX_NAMES} others"]


def _caveats(analysis: Analysis, any_ranked: bool) -> list[Finding]:
    unranked = [row for row in analysis.rows if not row.is_baseline and not row.ranked]
    findings = []
    if unranked:
        names = join_words(_abbreviate([sanitize(row.label) for row in unranked]))
        reasons = join_words(list(dict.fromkeys(sanitize(mark) for row in unranked for mark in row.marks)))
        findings.append(Finding("Not ranked", names, f"Marked {reasons}; shown below, but no winner can be named."))
    if not any_ranked and not unranked:
        findings.append(
            Finding("Result", "No summary", "Benchmarks that a summary needs are missing, or there are several models.")
        )
    seeds = {len(row.usable) for row in analysis.rows if row.ranked}
    if any_ranked and seeds == {1}:
        findings.append(
            Finding("Caution", "One training seed", "Another seed may move scores by more than the intervals.")
        )
    return findings
