"""From one item to its conversations, with whatever generator, image source and judge there are."""

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
from methods.augmentation.branches import NEGATIVE, conversations, negative
from methods.augmentation.generators.base import Fact, GeneratedTexts, GenerationRefused, Generator
from methods.augmentation.generators.chat import ChatGenerator
from methods.augmentation.grounding import SourceText, SupportChecker, unsupported_reason
from methods.augmentation.images.base import ImageSource
from methods.augmentation.quality import checked

Kind = Literal["tree", "text-agnostic", "text-aware", "image-agnostic", "image-aware"]
LANGUAGES = ("German", "French")
"""By way of which a model translates a text there and back."""
Got = TypeVar("Got")


@dataclass(frozen=True)
class Components:
    """What grows a tree."""

    kind: Kind
    seed: int
    generator: Generator
    images: ImageSource
    judge: SupportChecker | None = None
    negatives: bool = False
    relations: bool = False


@dataclass
class AugmentedItem:
    """What came of one item."""

    item: KnowledgeItem
    conversations: list[Conversation] = field(default_factory=list)
    facts: tuple[Fact, ...] = ()
    faults: list[ItemIssue] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def tried(self, branch: str, make: Callable[[], Got]) -> Got | None:
        """What a generator gives for a branch, or None where it was refused, which is noted."""
        try:
            return make()
        except GenerationRefused as error:
            self.faults.append(ItemIssue(self.item.id, branch, str(error)))
            return None


def augment_item(item: KnowledgeItem, parts: Components, names: Mapping[str, Sequence[str]]) -> AugmentedItem:
    """All that can be made of an item; what a generator refuses is left out and noted.

    Args:
        item: What it is about.
        parts: Who makes it.
        names: Those of all items, by type, for negatives.
    """
    grown = AugmentedItem(item)
    grown.conversations += _tree(grown, parts, names) if parts.kind == "tree" else _baseline(grown, parts)
    if parts.relations:
        facts = grown.tried("relation", lambda: parts.generator.facts(item)) or ()
        grown.facts = tuple(fact for fact in facts if not unsupported_reason(SourceText(item), fact[1], short=True))
    return grown


def written(grown: AugmentedItem, generator: Generator) -> GeneratedTexts:
    """What the generator writes; each branch is tried on its own."""
    item = grown.item
    return GeneratedTexts(
        grown.tried("dialogue", lambda: generator.dialogue(item)),
        grown.tried("caption", lambda: generator.summary(item)),
        grown.tried("vqa", lambda: generator.shorts(item)),
    )


def _tree(grown: AugmentedItem, parts: Components, names: Mapping[str, Sequence[str]]) -> Iterator[Conversation]:
    item = grown.item
    first = written(grown, parts.generator)
    if first.shorts is not None and not first.shorts:
        grown.dropped["vqa: no fact to ask for"] += 1
    kept = _checked(grown, first, parts.judge)
    count = 0
    for made in conversations(item, parts.seed, kept, parts.images):
        count += made.branch == "vqa"
        yield made
    if kept.shorts is not None and count < len(kept.shorts):
        grown.dropped["vqa: no picture of the subject"] += len(kept.shorts) - count
    if parts.negatives:
        made_no = negative(item, parts.seed, names[item.type], parts.images.alike(item, 3)[2])
        if made_no is None:
            grown.faults.append(ItemIssue(item.id, NEGATIVE, "no other item of its type has another name"))
        else:
            yield made_no


def _checked(grown: AugmentedItem, first: GeneratedTexts, judge: SupportChecker | None) -> GeneratedTexts:
    """What the item supports; a branch about which the judge gives nothing usable is refused."""
    whole = GeneratedTexts(None, None, None)
    for branch, part in (("dialogue", "dialogue"), ("caption", "summary"), ("vqa", "shorts")):
        alone = dataclasses.replace(GeneratedTexts(None, None, None), **{part: getattr(first, part)})
        found = grown.tried(branch, partial(checked, grown.item, alone, judge))
        if found is not None:
            whole = dataclasses.replace(whole, **{part: getattr(found[0], part)})
            grown.dropped += found[1]
    return whole


def _baseline(grown: AugmentedItem, parts: Components) -> list[Conversation]:
    item, generator = grown.item, parts.generator
    if parts.kind == "image-agnostic":
        return list(image_agnostic(item, parts.seed))
    if parts.kind == "image-aware":
        return list(image_aware(item, parts.images))
    if parts.kind == "text-aware":
        made = grown.tried("rephrased", lambda: list(text_aware(item, generator))) or []
        return _supported(grown, made)
    back = _translated(grown, generator) if isinstance(generator, ChatGenerator) else []
    return _supported(grown, list(text_agnostic(item, parts.seed, back)), only="back-translation")


def _translated(grown: AugmentedItem, generator: ChatGenerator) -> list[str]:
    made = []
    for language in LANGUAGES:
        text = grown.tried("back-translation", partial(generator.translated_back, grown.item, language))
        made += [text] if text else []
    return made


def _supported(grown: AugmentedItem, made: Sequence[Conversation], only: str = "rephrased") -> list[Conversation]:
    """Without the copies of which the item does not say enough."""
    source, kept = SourceText(grown.item), []
    for each in made:
        fault = unsupported_reason(source, each.turns[-1].text) if only in each.id else ""
        if fault:
            grown.dropped[f"text: {fault}"] += 1
        else:
            kept.append(each)
    return kept


def asked(item: KnowledgeItem, parts: Components) -> None:
    """Ask the generator for all that ``augment_item`` would ask of it, and let go of what it gives: for a forecast."""
    grown = AugmentedItem(item)
    if parts.kind == "tree":
        made = written(grown, parts.generator)
        if parts.judge is not None:
            _checked(grown, made, parts.judge)
            unknown = [made.dialogue, made.summary, made.shorts].count(None)
            for _ in range(unknown):  # what the judge will see is not written yet: something of about its length
                grown.tried("judge", partial(parts.judge.supported, item, [item.text]))
    elif parts.kind in ("text-agnostic", "text-aware"):
        _baseline(grown, parts)
    if parts.relations:
        grown.tried("relation", lambda: parts.generator.facts(item))
