"""What the KORE paper says its experiments show, tested on the rows of a run: a verdict for each claim."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

from reports.marks import TRANSDUCTIVE, UNRANKED
from reports.statistics import resampling
from reports.statistics.contrasts import apply_holm
from reports.statistics.estimates import Analysis, Contrast
from reports.statistics.rows import ReportRow
from reports.table import TextTable
from reports.text import MISSING, format_number, format_p, format_signed, sanitize

CLAIMS = Path(__file__).parents[1] / "data" / "paper-claims.yaml"
HEADS = ("Claim", "Measure", "Compared", "Difference", "95 % interval", "p", "Verdict")
Verdict = Literal["holds", "does not hold", "undecided"]
VERDICTS: tuple[Verdict, ...] = ("holds", "does not hold", "undecided")


@dataclass(frozen=True)
class Claim:
    """One statement: every row of ``more`` has a higher score than every row of ``less``.

    Args:
        claim: The statement in our words.
        source: The part of the paper, or "ours" for a control that it does not have.
        measure: A summary such as K.A, or a benchmark.
        more: Rows that are expected to be higher.
        less: Rows that are expected to be lower.
    """

    claim: str
    source: str
    measure: str
    more: tuple[str, ...]
    less: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Two rows of a run, compared as a claim says; the contrast is the first minus the second."""

    claim: Claim
    first: ReportRow
    second: ReportRow
    contrast: Contrast

    @property
    def verdict(self) -> Verdict:
        """Whether the difference has the claimed sign, the other one, or may have either."""
        if not self.contrast.p < resampling.ALPHA:
            return "undecided"
        return "holds" if self.contrast.delta > 0 else "does not hold"


@cache
def read_claims() -> tuple[Claim, ...]:
    """All claims, in the order of the paper."""
    rows = yaml.safe_load(CLAIMS.read_text("utf-8"))
    return tuple(Claim(**{**row, "more": tuple(row["more"]), "less": tuple(row["less"])}) for row in rows)


def judge_claims(analysis: Analysis) -> TextTable:
    """Judge every claim of which the run has a comparison; p values are Holm-corrected over all of them."""
    found = list(_comparisons(analysis))
    corrected = apply_holm({number: one.contrast for number, one in enumerate(found)})
    judged = [replace(one, contrast=corrected[number]) for number, one in enumerate(found)]
    records = [record for claim in read_claims() for record in _records(claim, judged)]
    return TextTable("paper-claims", "What the paper claims, on these rows", HEADS, tuple(records), _notes(judged))


def _comparisons(analysis: Analysis) -> Iterator[Comparison]:
    """The comparisons of every claim that the run has, those of different models apart."""
    by_name: dict[tuple[str, str], int] = {}
    for number, row in enumerate(analysis.rows):
        if len(row.usable) == len(row.cells) and not set(row.marks) & (UNRANKED - {TRANSDUCTIVE}):
            by_name.setdefault((row.first.model, row.first.label or row.first.method), number)
    for claim, model in itertools.product(read_claims(), dict.fromkeys(model for model, _ in by_name)):
        for more, less in itertools.product(claim.more, claim.less):
            first, second = by_name.get((model, more)), by_name.get((model, less))
            if first is None or second is None:
                continue
            raw = analysis.raw.get((min(first, second), max(first, second), claim.measure))
            if raw is not None:  # the two rows answered the same questions
                contrast = raw if first < second else raw.reversed()
                yield Comparison(claim, analysis.rows[first], analysis.rows[second], contrast)


def _records(claim: Claim, judged: Sequence[Comparison]) -> Iterator[tuple[str, ...]]:
    """One record for each comparison of a claim; one that says so if there is none."""
    head = (f"{claim.claim} ({claim.source})", claim.measure)
    own = [one for one in judged if one.claim == claim]
    for one in own:
        contrast = one.contrast
        yield (
            *head,
            f"{sanitize(one.first.label)} - {sanitize(one.second.label)}",
            format_signed(contrast.delta),
            f"{format_number(contrast.low)} to {format_number(contrast.high)}",
            format_p(contrast.p),
            one.verdict,
        )
    if not own:
        yield (*head, f"{', '.join(claim.more)} - {', '.join(claim.less)}", *[MISSING] * 3, "not run")


def _notes(judged: Sequence[Comparison]) -> tuple[str, ...]:
    counts = Counter(one.verdict for one in judged)
    verdicts = ", ".join(f"{verdict} {counts[verdict]}" for verdict in VERDICTS)
    seeds = sorted({len(row.usable) for one in judged for row in (one.first, one.second) if not row.is_baseline})
    trained = (
        f"Training seeds of a row: {' or '.join(map(str, seeds))}. The test covers the questions; a difference that is "
        "smaller than the spread of the seeds may come from the seed."
    )
    return (
        f"{len(judged)} comparisons: {verdicts}. Differences are in points, the first row minus the second, with the "
        "paired test of the other tables, Holm-corrected over all comparisons of this listing.",
        *([trained] if seeds else []),
        "The claims are those of the KORE paper (arXiv 2510.19316) in our words, and controls of this project (ours). "
        "A verdict is about this run's model and data alone.",
    )
