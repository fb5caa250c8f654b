"""Questions over two items that share an entity or a fact. The paper leaves them as an open question."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from benchmarks.multihop import HopEntity, TwoHopChain, find_chains
from benchmarks.records import Conversation, KnowledgeItem
from methods.augmentation import templates
from methods.augmentation.generators.base import Fact, ShortQuestion
from methods.augmentation.generators.rule_based import RuleGenerator
from methods.augmentation.images.base import ImageSource, OwnImages
from methods.augmentation.knowledge_tree import knowledge_tree, make_conversation
from methods.augmentation.templates import TemplateSampler
from methods.augmentation.tree_shape import RELATION

PER_ITEM = 5
"""Maximum number of relation questions about one picture."""


def to_entity(item: KnowledgeItem, facts: Sequence[Fact]) -> HopEntity:
    """The parts of an item that chains are made from."""
    return HopEntity(item.id, item.name, item.type, tuple(facts))


def training_chains(entities: Sequence[HopEntity], seed: int) -> Iterator[TwoHopChain]:
    """The chains to train on: at most five from one start, drawn at random, and none reserved for evaluation."""
    by_start: dict[str, list[TwoHopChain]] = {}
    for chain in find_chains(entities):
        if not chain.reserved:
            by_start.setdefault(chain.start.id, []).append(chain)
    for start, candidates in by_start.items():
        yield from random.Random(f"{seed}/{start}").sample(candidates, min(PER_ITEM, len(candidates)))


def relation_conversation(
    item: KnowledgeItem, seed: int, chain: TwoHopChain, number: int, images: ImageSource
) -> Conversation | None:
    """The question of a chain about a picture of its start; None if there is no picture."""
    wordings = templates.BRIDGE if chain.kind == "bridge" else templates.SHARED
    (link, _), (field, value) = chain.link, chain.fact
    question = TemplateSampler(item, seed).fill(
        f"relation/{number}", wordings, link=link, end=chain.end.type, field=field
    )
    picture = images.about(item, ShortQuestion(question, value, item.name, item.type), 100 + number)
    if picture is None:
        return None
    return make_conversation(item, RELATION, picture, [(question + templates.SHORT, value)], f"{RELATION}/{number}")


def with_relations(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    """The knowledge tree and questions over two items."""
    items, images = {item.id: item for item in knowledge}, OwnImages(seed)
    relations = (
        relation_conversation(items[chain.start.id], seed, chain, number, images)
        for number, chain in enumerate(_chains(knowledge, seed))
    )
    return [*knowledge_tree(knowledge, seed), *filter(None, relations)]


def count_relations(knowledge: Sequence[KnowledgeItem]) -> int:
    """The number of questions over two items, without making their pictures."""
    return sum(1 for _ in _chains(knowledge, 0))


def _chains(knowledge: Sequence[KnowledgeItem], seed: int) -> Iterator[TwoHopChain]:
    generator = RuleGenerator(seed)
    return training_chains([to_entity(item, generator.facts(item)) for item in knowledge], seed)
