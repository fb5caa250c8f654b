"""How many training conversations each branch of the knowledge tree has, beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping

from reports.statistics.estimates import Analysis
from reports.text import join_words, sanitize

KORE_74K = {"dialogue": 9_422, "recognition": 9_422, "caption": 9_422, "vqa": 46_468}
"""The paper's tree (KORE, arXiv 2510.19316v2, table 24): 74,734 conversations about EVOKE's 9,422 items."""


def branch_notes(analysis: Analysis) -> list[str]:
    """One note for the rows that were trained on a knowledge tree; none if there are no such rows.

    Rows with the same counts are named together. Other branches, such as replayed samples, are counted with them.
    """
    rows_by_counts: dict[str, list[str]] = {}
    for row in analysis.rows:
        counts: Mapping[str, int] = next((cell.branches for cell in row.cells if cell.branches), {})
        if counts.keys() & KORE_74K.keys():
            rows_by_counts.setdefault(_listed(counts), []).append(sanitize(row.label))
    if not rows_by_counts:
        return []
    ours = "; ".join(f"{join_words(rows)} {counts}" for counts, rows in rows_by_counts.items())
    paper = f"the paper's KORE-74K {_listed(KORE_74K)}"
    return [f"Training conversations by branch of the knowledge tree: {ours}; {paper}."]


def _listed(counts: Mapping[str, int]) -> str:
    """The total and every branch, the tree's own first and also where they are empty."""
    names = [*KORE_74K, *sorted(counts.keys() - KORE_74K.keys())]
    branches = ", ".join(f"{counts.get(name, 0):,} {sanitize(name)}" for name in names)
    return f"{sum(counts.values()):,} ({branches})"
