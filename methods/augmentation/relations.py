"""Questions over two items that share an entity or a fact, with the chain recorded. An open question of the paper."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.multihop import HopEntity, TwoHopChain, chains
from benchmarks.records import Conversation, KnowledgeItem
from methods.augmentation import templates as say
from methods.augmentation.branches import conversation
from methods.augmentation.generators.base import Fact, ShortQuestion
from methods.augmentation.images.base import ImageSource
from methods.augmentation.images.own_picture import OwnImages
from methods.augmentation.knowledge_tree import knowledge_tree
from methods.augmentation.voice import TemplateSampler

BRANCH = "relation"
PER_ITEM = 5
"""Most relation questions over one picture."""


def node_of(item: KnowledgeItem, facts: Sequence[Fact]) -> HopEntity:
    """What chains need of an item."""
    return HopEntity(item.id, item.name, item.type, tuple(facts))


def trained_chains(nodes: Sequence[HopEntity], seed: int) -> Iterator[TwoHopChain]:
    """The chains to train on: never a reserved one, at most five from one start, drawn by seed and start."""
    by_start: dict[str, list[TwoHopChain]] = {}
    for chain in chains(nodes):
        if not chain.reserved:
            by_start.setdefault(chain.start.id, []).append(chain)
    for start, found in by_start.items():
        yield from random.Random(f"{seed}/{start}").sample(found, min(PER_ITEM, len(found)))


def relation(
    item: KnowledgeItem, seed: int, chain: TwoHopChain, number: int, images: ImageSource
) -> Conversation | None:
    """The question of a chain over a picture of its start; None where there is no picture."""
    wordings = say.BRIDGE if chain.kind == "bridge" else say.SHARED
    asked = TemplateSampler(item, seed).say(
        f"relation/{number}", wordings, link=chain.link[0], end=chain.end.type, field=chain.fact[0]
    )
    picture = images.about(item, ShortQuestion(asked, chain.fact[1], item.name, item.type), 100 + number)
    slot = f"{BRANCH}/{number}"
    return None if picture is None else conversation(item, BRANCH, picture, [(asked + say.SHORT, chain.fact[1])], slot)


def with_relations(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    """The knowledge tree, and questions over two items."""
    items: Mapping[str, KnowledgeItem] = {item.id: item for item in knowledge}
    found = trained_chains([node_of(item, item.facts) for item in knowledge], seed)
    made = [relation(items[chain.start.id], seed, chain, number, OwnImages(seed)) for number, chain in enumerate(found)]
    return [*knowledge_tree(knowledge, seed), *(each for each in made if each)]
