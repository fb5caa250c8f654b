"""What the rows of a batch begin with in common, so that it is read once: questions about one picture, above all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MAX_TOKEN_SHARE = 0.8
"""A plan must leave at most this share of the tokens that reading each row from its beginning takes."""
MIN_SHARED_PREFIX = 0.25
"""Rows are of one kind when they share at least this part of the shorter one."""


@dataclass(frozen=True)
class PrefixPlan:
    """How a batch is read in two passes.

    Attributes:
        owners: The rows whose beginnings are read first, one for each kind.
        lengths: How much of each owner is read first, in tokens; at least 1.
        kinds: For each row of the batch the number of its owner in ``owners``.
    """

    owners: tuple[int, ...]
    lengths: tuple[int, ...]
    kinds: tuple[int, ...]


def plan(rows: Sequence[Sequence[int]]) -> PrefixPlan | None:
    """Which beginnings to read once, or None where it would hardly pay.

    A row that shares nothing is cut as well, so that all rows have about as much left for the second pass.

    Args:
        rows: What each row reads, by numbers; at least two each.
    """
    order = sorted(range(len(rows)), key=lambda row: list(rows[row]))
    kinds = [[order[0]]]
    shared = [len(rows[order[0]]) - 1]
    for before, row in pairwise(order):
        common = min(_common(rows[before], rows[row]), len(rows[row]) - 1)
        if common >= MIN_SHARED_PREFIX * min(len(rows[before]), len(rows[row])):
            kinds[-1].append(row)
            shared[-1] = min(shared[-1], common)
        else:
            kinds.append([row])
            shared.append(len(rows[row]) - 1)
    rest = [max(len(rows[row]) for row in kind) - own for kind, own in zip(kinds, shared, strict=True) if len(kind) > 1]
    if not rest:
        return None
    lengths = [min(own, max(1, len(rows[kind[-1]]) - max(rest))) if len(kind) == 1 else own
               for kind, own in zip(kinds, shared, strict=True)]  # fmt: skip
    left = max(len(rows[row]) - own for kind, own in zip(kinds, lengths, strict=True) for row in kind)
    if len(kinds) * max(lengths) + len(rows) * left > MAX_TOKEN_SHARE * len(rows) * max(map(len, rows)):
        return None
    numbers = {row: number for number, kind in enumerate(kinds) for row in kind}
    return PrefixPlan(tuple(kind[0] for kind in kinds), tuple(lengths), tuple(numbers[row] for row in range(len(rows))))


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of what both begin with."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))
