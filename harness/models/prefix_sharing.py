"""Which prefixes the rows of a batch share, so that each is prefilled once: above all questions about one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MAX_TOKEN_SHARE = 0.8
"""A plan must process at most this share of the tokens that prefilling each row separately takes."""
MIN_SHARED_PREFIX = 0.25
"""Rows are in one group if they share at least this part of the shorter one."""


@dataclass(frozen=True)
class PrefixPlan:
    """How to prefill a batch in two passes.

    Attributes:
        owners: The rows whose prefixes are processed in the first pass, one for each group.
        lengths: The length of each prefix, in tokens; at least 1.
        groups: For each row of the batch the index of its owner in ``owners``.
    """

    owners: tuple[int, ...]
    lengths: tuple[int, ...]
    groups: tuple[int, ...]


def plan_prefixes(rows: Sequence[Sequence[int]]) -> PrefixPlan | None:
    """Which prefixes to process once, or None if it would save little.

    A row that shares nothing is cut as well, so that all rows have about as much left for the second pass.

    Args:
        rows: Token ids of each row, or other numbers that tell its inputs apart; at least two each.
    """
    order = sorted(range(len(rows)), key=lambda row: list(rows[row]))
    groups = [[order[0]]]
    shared = [len(rows[order[0]]) - 1]
    for before, row in pairwise(order):
        common = min(common_length(rows[before], rows[row]), len(rows[row]) - 1)
        if common >= MIN_SHARED_PREFIX * min(len(rows[before]), len(rows[row])):
            groups[-1].append(row)
            shared[-1] = min(shared[-1], common)
        else:
            groups.append([row])
            shared.append(len(rows[row]) - 1)
    rests = [
        max(len(rows[row]) for row in group) - length
        for group, length in zip(groups, shared, strict=True)
        if len(group) > 1
    ]
    if not rests:
        return None
    lengths = [
        min(length, max(1, len(rows[group[-1]]) - max(rests))) if len(group) == 1 else length
        for group, length in zip(groups, shared, strict=True)
    ]
    rest = max(len(rows[row]) - length for group, length in zip(groups, lengths, strict=True) for row in group)
    if len(groups) * max(lengths) + len(rows) * rest > MAX_TOKEN_SHARE * len(rows) * max(map(len, rows)):
        return None
    group_of = {row: index for index, group in enumerate(groups) for row in group}
    owners = tuple(group[0] for group in groups)
    return PrefixPlan(owners, tuple(lengths), tuple(group_of[row] for row in range(len(rows))))


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of tokens that two rows begin with alike."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))
