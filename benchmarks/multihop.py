"""Two items that share an entity or a fact, and the question that needs both: multi-hop knowledge.

Of all chains a fixed quarter is reserved for evaluation; training data made from relations leaves it out.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

RESERVED = 4
"""One chain in so many is for evaluation alone."""
MANY = 8
"""Items that may share a fact before it counts as commonplace and links nothing."""

Fact = tuple[str, str]


@dataclass(frozen=True)
class HopEntity:
    """What chains need of an item."""

    id: str
    name: str
    type: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class TwoHopChain:
    """From what a picture shows, over a link, to a fact of another item.

    Args:
        start: Shown.
        link: The start's fact that leads on: its value is the other item's name, or the other item has the fact too.
        end: The other item.
        fact: The end's fact that is asked for.
        kind: ``bridge`` where the link's value is the end itself, ``shared`` where both have the link.
    """

    start: HopEntity
    link: Fact
    end: HopEntity
    fact: Fact
    kind: Literal["bridge", "shared"]

    @property
    def hops(self) -> tuple[tuple[str, str, str], ...]:
        """The facts that the answer takes, as (item's id, field, value)."""
        return ((self.start.id, *self.link), (self.end.id, *self.fact))

    @property
    def reserved(self) -> bool:
        """Whether the chain is for evaluation: decided by what it links, whatever other items there are."""
        marks = "\0".join((self.start.name, self.end.name, self.fact[0])).casefold()
        return hashlib.sha256(marks.encode()).digest()[0] % RESERVED == 0


def chains(nodes: Iterable[HopEntity]) -> Iterator[TwoHopChain]:
    """Every chain whose answer is certain among these items, by start and then by end.

    A shared fact links only where exactly one other item of the end's type has it, so that the question has one answer;
    the fact asked for is neither one that the start shares nor commonplace.
    """
    known = {node.id: node for node in nodes}
    named, having = defaultdict(list), defaultdict(list)
    for node in known.values():
        named[node.name.casefold()].append(node)
        for field, value in dict.fromkeys(node.facts):
            having[field, value.casefold()].append(node)

    def rare(fact: Fact) -> bool:
        return len(having[fact[0], fact[1].casefold()]) < MANY

    for start in known.values():
        for link in start.facts:
            ends = [node for node in named[link[1].casefold()] if node.id != start.id]
            if len(ends) == 1:
                yield from (each for each in _asked(start, link, ends[0], "bridge") if rare(each.fact))
            sharing = [node for node in having[link[0], link[1].casefold()] if node.id != start.id]
            for end in sharing if len(sharing) < MANY else ():
                if sum(node.type == end.type for node in sharing) == 1:
                    yield from (each for each in _asked(start, link, end, "shared") if rare(each.fact))


def _asked(start: HopEntity, link: Fact, end: HopEntity, kind: Literal["bridge", "shared"]) -> Iterator[TwoHopChain]:
    own = {value.casefold() for _, value in start.facts} | {start.name.casefold()}
    for fact in end.facts:
        if fact[0] != link[0] and fact[1].casefold() not in own:
            yield TwoHopChain(start, link, end, fact, kind)
