"""Marks: what a reader must know about a row or a number, each with its symbol, its meaning, and whether it ranks."""

from __future__ import annotations

from dataclasses import dataclass

RULE_JUDGE = "rule-judge"
LIMITED = "limited"
TRANSDUCTIVE = "transductive"
UNJUDGED = "unjudged"
LEAKED = "leaked"
RELATED = "related"
UNREAD = "unread"
TRUNCATED = "truncated"
OTHER_SIZE = "other-size"
CONTEXT = "context"
ORACLE = "oracle"
OTHER_ENGINE = "other-engine"


@dataclass(frozen=True)
class Mark:
    """How a mark is shown.

    Args:
        symbol: Stands beside a number.
        meaning: For the note below a table; empty where the note is made from the run.
        ranked: Whether a number with this mark may be ranked (invariant I5).
    """

    symbol: str
    meaning: str = ""
    ranked: bool = True


MARKS = {
    RULE_JUDGE: Mark(
        "†", "judged by a fixed rule where the original benchmark asks a judge model; not comparable with it"
    ),
    LIMITED: Mark("‡", "only part of the questions were asked; never ranked", ranked=False),
    TRANSDUCTIVE: Mark("§", "the method has seen inputs of an evaluation benchmark; never ranked", ranked=False),
    UNJUDGED: Mark("¶", "needs a judge that was not there; never ranked", ranked=False),
    LEAKED: Mark(
        "‖",
        "the training data holds evaluation questions of this run, with their answers; never ranked",
        ranked=False,
    ),
    ORACLE: Mark(
        "⊤",
        "the questions are asked with the text of the very item that they are about: an upper bound; never ranked",
        ranked=False,
    ),
    CONTEXT: Mark("⊕", "the questions are asked with a context that the other rows do not see"),
    OTHER_ENGINE: Mark("≈", "answered by vLLM, not by the built-in engine, which is the reference"),
    UNREAD: Mark("◊", "more than 5 % of the answers could not be read by the benchmark's rule"),
    TRUNCATED: Mark("¬", "more than 5 % of the answers were cut at the limit of new tokens"),
    OTHER_SIZE: Mark("△"),
    RELATED: Mark(
        "∩",
        "the method draws samples from a data set that a benchmark of this run, or the marked one, was made from; "
        "unlike the other marked rows it is ranked, since the questions themselves are others",
    ),
}
"""By name. A mark that is not listed is shown by ``OTHER_SYMBOL``, without a meaning."""
OTHER_SYMBOL = "#"
UNRANKED = frozenset(name for name, mark in MARKS.items() if not mark.ranked)
"""Marks that exclude a number from every ranking (invariant I5). Other marks are only shown."""


def symbol(mark: str) -> str:
    """The symbol of a mark."""
    return MARKS[mark].symbol if mark in MARKS else OTHER_SYMBOL


def meaning(mark: str) -> str:
    """What a mark means; empty if it is not listed, or if a note of the run says it."""
    return MARKS[mark].meaning if mark in MARKS else ""
