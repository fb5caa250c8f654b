"""Make the conversations of one item with a generator, an image source and a support checker."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeVar

from benchmarks.records import Conversation, KnowledgeItem
from harness.augment.reader import ItemIssue
from methods.augmentation.baselines import image_agnostic, image_aware, text_agnostic, text_aware
from methods.augmentation.generators.base import NO_TEXTS, Fact, GeneratedTexts, GenerationRefused, Generator
from methods.augmentation.generators.chat import ChatGenerator
from methods.augmentation.grounding import SourceText, SupportChecker, drop_unsupported, unsupported_reason
from methods.augmentation.images.base import ImageSource
from methods.augmentation.knowledge_tree import NEGATIVE, item_conversations, negative_recognition

Kind = Literal["tree", "text-agnostic", "text-aware", "image-agnostic", "image-aware"]
LANGUAGES = ("German", "French")
"""Languages of back-translations."""
TEXT_OF_BRANCH = {"dialogue": "dialogue", "caption": "summary", "vqa": "shorts"}
"""The field of ``GeneratedTexts`` that each branch is made from."""
T = TypeVar("T")


@dataclass(frozen=True)
class Components:
    """What conversations are made with."""

    kind: Kind
    seed: int
    generator: Generator
    images: ImageSource
    checker: SupportChecker | None = None
    negatives: bool = False
    relations: bool = False


@dataclass
class AugmentedItem:
    """The conversations of one item, its facts, and what was refused or dropped."""

    item: KnowledgeItem
    conversations: list[Conversation] = field(default_factory=list)
    facts: tuple[Fact, ...] = ()
    issues: list[ItemIssue] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def try_branch(self, branch: str, make: Callable[[], T]) -> T | None:
        """The result of ``make``; None if the generator refuses, which is recorded as an issue."""
        try:
            return make()
        except GenerationRefused as error:
            self.issues.append(ItemIssue(self.item.id, branch, str(error)))
            return None


def augment_item(item: KnowledgeItem, components: Components, names: Mapping[str, Sequence[str]]) -> AugmentedItem:
    """Make all conversations of an item; branches that the generator refuses are left out and recorded.

    Args:
        item: The item.
        components: What to make the conversations with.
        names: The names of all items by type, for negatives.
    """
    augmented = AugmentedItem(item)
    if components.kind == "tree":
        augmented.conversations.extend(_tree(augmented, components, names))
    else:
        augmented.conversations.extend(_baseline(augmented, components))
    if components.relations:
        facts = augmented.try_branch("relation", lambda: components.generator.facts(item)) or ()
        source = SourceText(item)
        augmented.facts = tuple(fact for fact in facts if not unsupported_reason(source, fact[1], short=True))
    return augmented


def dry_run(item: KnowledgeItem, components: Components) -> None:
    """Make all generator calls that ``augment_item`` would make, and discard the results: for a forecast."""
    augmented = AugmentedItem(item)
    if components.kind == "tree":
        texts = _write_texts(augmented, components.generator)
        if components.checker is not None:
            _drop_unsupported(augmented, texts, components.checker)
            unknown = [texts.dialogue, texts.summary, texts.shorts].count(None)
            for _ in range(unknown):  # the text to check does not exist yet: the item's own text is about as long
                augmented.try_branch("judge", partial(components.checker.supported, item, [item.text]))
    elif components.kind in ("text-agnostic", "text-aware"):
        _baseline(augmented, components)
    if components.relations:
        augmented.try_branch("relation", lambda: components.generator.facts(item))


def _write_texts(augmented: AugmentedItem, generator: Generator) -> GeneratedTexts:
    item = augmented.item
    return GeneratedTexts(
        augmented.try_branch("dialogue", lambda: generator.dialogue(item)),
        augmented.try_branch("caption", lambda: generator.summary(item)),
        augmented.try_branch("vqa", lambda: generator.shorts(item)),
    )


def _tree(
    augmented: AugmentedItem, components: Components, names: Mapping[str, Sequence[str]]
) -> Iterator[Conversation]:
    item, seed, images = augmented.item, components.seed, components.images
    texts = _write_texts(augmented, components.generator)
    if not item.named:
        augmented.dropped["name: made from the picture's file name"] += 1
    if texts.shorts is not None and not texts.shorts:
        augmented.dropped["vqa: no fact to ask for"] += 1
    texts = _drop_unsupported(augmented, texts, components.checker)
    short_questions = 0
    for conversation in item_conversations(item, seed, texts, images):
        short_questions += conversation.branch == "vqa"
        yield conversation
    if texts.shorts is not None and short_questions < len(texts.shorts):
        augmented.dropped["vqa: no picture of the subject"] += len(texts.shorts) - short_questions
    if components.negatives:
        negative = negative_recognition(item, seed, names.get(item.type, ()), images.alike(item, 3)[2])
        if negative is None:
            reason = "it has no name, or no other item of its type has another one"
            augmented.issues.append(ItemIssue(item.id, NEGATIVE, reason))
        else:
            yield negative


def _drop_unsupported(
    augmented: AugmentedItem, texts: GeneratedTexts, checker: SupportChecker | None
) -> GeneratedTexts:
    """Drop what the item does not support, each branch on its own, so that one that is refused costs no other."""
    supported = NO_TEXTS
    for branch, name in TEXT_OF_BRANCH.items():
        text = dataclasses.replace(NO_TEXTS, **{name: getattr(texts, name)})
        result = augmented.try_branch(branch, partial(drop_unsupported, augmented.item, text, checker))
        if result is not None:
            supported = dataclasses.replace(supported, **{name: getattr(result[0], name)})
            augmented.dropped += result[1]
    return supported


def _baseline(augmented: AugmentedItem, components: Components) -> list[Conversation]:
    item, seed, generator = augmented.item, components.seed, components.generator
    if components.kind == "image-agnostic":
        return list(image_agnostic(item, seed))
    if components.kind == "image-aware":
        return list(image_aware(item, components.images))
    if components.kind == "text-aware":
        rephrased = augmented.try_branch("rephrased", lambda: list(text_aware(item, generator))) or []
        return _supported(augmented, rephrased, "rephrased")
    back_translated = []
    if isinstance(generator, ChatGenerator):
        for language in LANGUAGES:
            text = augmented.try_branch("back-translation", partial(generator.translate_back, item, language))
            back_translated += [text] if text else []
    return _supported(augmented, list(text_agnostic(item, seed, back_translated)), "back-translation")


def _supported(augmented: AugmentedItem, conversations: Sequence[Conversation], kind: str) -> list[Conversation]:
    """Drop the conversations of a kind whose answer the item does not support."""
    source, kept = SourceText(augmented.item), []
    for conversation in conversations:
        reason = unsupported_reason(source, conversation.turns[-1].text) if kind in conversation.id else ""
        if reason:
            augmented.dropped[f"text: {reason}"] += 1
        else:
            kept.append(conversation)
    return kept
