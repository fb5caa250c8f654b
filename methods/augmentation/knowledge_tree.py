"""KORE-Augmentation offline: from pieces of knowledge to trees of conversations, by rule.

The paper has GPT-4o write the questions and takes further pictures from an image search; here both come from the item's
own text, facts and picture. ``python -m harness augment`` uses the real parts. The generator is given knowledge items
and nothing else, so it cannot see an evaluation question.

Source: KORE, arXiv 2510.19316v2, section 3.2 and appendix I.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from benchmarks.records import Conversation, KnowledgeItem
from methods.augmentation.branches import conversations, negative
from methods.augmentation.generators.rule_based import RuleGenerator
from methods.augmentation.images.own_picture import OwnImages


def knowledge_tree(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    """All conversations of all items: for each a dialogue, a recognition, a caption and up to five short questions."""
    rule, own = RuleGenerator(seed), OwnImages(seed)
    return [each for item in knowledge for each in conversations(item, seed, rule.written(item), own)]


def with_negatives(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    """The knowledge tree, and for each item a recognition of another of its type, to be answered with No."""
    own, names = OwnImages(seed), names_by_type(knowledge)
    asked = (negative(item, seed, names[item.type], own.slot(item, "negative")) for item in knowledge)
    return [*knowledge_tree(knowledge, seed), *(each for each in asked if each)]


def names_by_type(knowledge: Iterable[KnowledgeItem]) -> dict[str, list[str]]:
    """The different names of each type, in order of appearance."""
    found: dict[str, dict[str, None]] = {}
    for item in knowledge:
        found.setdefault(item.type, {})[item.name] = None
    return {kind: list(names) for kind, names in found.items()}


def branch_counts(conversations: Iterable[Conversation]) -> dict[str, int]:
    """How many conversations each branch has."""
    return dict(Counter(conversation.branch for conversation in conversations))
