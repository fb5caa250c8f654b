"""Multi-hop knowledge: questions that need two items which share an entity or a fact.

A fixed quarter of all chains is reserved for evaluation; training data made from relations leaves it out.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

RESERVED_ONE_IN = 4
"""One chain in this many is only for evaluation."""
COMMON = 8
"""A fact that this many items share is too common to link two of them."""

Fact = tuple[str, str]


@dataclass(frozen=True)
class HopEntity:
    """The parts of a knowledge item that chains use."""

    id: str
    name: str
    type: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class TwoHopChain:
    """A chain from the item in a picture, over a link, to a fact of another item.

    Args:
        start: The item in the picture.
        link: The start's fact that links the two: its value is the other item's name, or both items have the fact.
        end: The other item.
        fact: The end's fact that is asked for.
        kind: ``bridge`` if the link's value is the end itself, ``shared`` if both have the link.
    """

    start: HopEntity
    link: Fact
    end: HopEntity
    fact: Fact
    kind: Literal["bridge", "shared"]

    @property
    def hops(self) -> tuple[tuple[str, str, str], ...]:
        """The facts that the answer needs, as (item's id, field, value)."""
        return ((self.start.id, *self.link), (self.end.id, *self.fact))

    @property
    def reserved(self) -> bool:
        """Whether the chain is for evaluation; depends only on what it links, not on other items."""
        key = "\0".join((self.start.name, self.end.name, self.fact[0])).casefold()
        return hashlib.sha256(key.encode()).digest()[0] % RESERVED_ONE_IN == 0


def find_chains(entities: Iterable[HopEntity]) -> Iterator[TwoHopChain]:
    """Find every chain with exactly one answer among these items, by start and then by end.

    A shared fact links two items only if no other item of the end's type has it, so that the question has one answer.
    The fact asked for is neither shared by the start nor common.
    """
    by_id = {entity.id: entity for entity in entities}
    by_name, by_fact = defaultdict(list), defaultdict(list)
    for entity in by_id.values():
        by_name[entity.name.casefold()].append(entity)
        for field, value in dict.fromkeys(entity.facts):
            by_fact[field, value.casefold()].append(entity)

    def rare(fact: Fact) -> bool:
        return len(by_fact[fact[0], fact[1].casefold()]) < COMMON

    for start in by_id.values():
        for link in start.facts:
            ends = [entity for entity in by_name[link[1].casefold()] if entity.id != start.id]
            if len(ends) == 1:
                yield from (chain for chain in _chains_between(start, link, ends[0], "bridge") if rare(chain.fact))
            sharing = [entity for entity in by_fact[link[0], link[1].casefold()] if entity.id != start.id]
            for end in sharing if len(sharing) < COMMON else ():
                if sum(entity.type == end.type for entity in sharing) == 1:
                    yield from (chain for chain in _chains_between(start, link, end, "shared") if rare(chain.fact))


def _chains_between(
    start: HopEntity, link: Fact, end: HopEntity, kind: Literal["bridge", "shared"]
) -> Iterator[TwoHopChain]:
    own = {value.casefold() for _, value in start.facts} | {start.name.casefold()}
    for fact in end.facts:
        if fact[0] != link[0] and fact[1].casefold() not in own:
            yield TwoHopChain(start, link, end, fact, kind)
