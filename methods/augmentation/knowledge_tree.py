"""KORE-Augmentation: from a piece of knowledge to a tree of conversations.

The trunk is a dialogue about the item's own picture; the branches are recognition, caption and short questions about
other pictures. The paper has GPT-4o write the texts and an image search find the pictures; so can
``python -m harness augment``. ``knowledge_tree`` works offline, by rule, from the item's own text, facts and picture.
It is given knowledge items and nothing else, so that it cannot see an evaluation question.

Source: KORE, arXiv 2510.19316v2, section 3.2 and appendix I.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from benchmarks.records import IMAGE, Conversation, KnowledgeItem, Picture, Turn
from methods.augmentation import templates
from methods.augmentation.generators.base import GeneratedTexts, Round
from methods.augmentation.generators.rule_based import RuleGenerator
from methods.augmentation.images.base import ImageSource, OwnImages
from methods.augmentation.templates import TemplateSampler
from methods.augmentation.tree_shape import ROUNDS

NEGATIVE = "recognition-negative"
"""The branch of recognition questions whose answer is No; not in the paper."""


def knowledge_tree(knowledge: Sequence[KnowledgeItem], seed: int, rounds: int = ROUNDS) -> list[Conversation]:
    """For each item a dialogue, a recognition, a caption and up to five short questions, all by rule."""
    generator, images = RuleGenerator(seed), OwnImages(seed)
    trees = (item_conversations(item, seed, generator.write(item), images, rounds) for item in knowledge)
    return [conversation for tree in trees for conversation in tree]


def count_branches(knowledge: Sequence[KnowledgeItem]) -> dict[str, int]:
    """The number of conversations in each branch of the knowledge tree, without making their pictures."""
    generator = RuleGenerator(0)  # the seed changes the wording alone
    texts = [generator.write(item) for item in knowledge]
    return {
        "dialogue": sum(item.named or bool(each.dialogue) for item, each in zip(knowledge, texts, strict=True)),
        "recognition": sum(item.named for item in knowledge),
        "caption": sum(each.summary is not None for each in texts),
        "vqa": sum(len(each.shorts or ()) for each in texts),
    }


def with_negatives(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    """The knowledge tree and, for each item, a recognition question about another item, whose answer is No."""
    images, names = OwnImages(seed), names_by_type(knowledge)
    negatives = (
        negative_recognition(item, seed, names[item.type], images.edit_for(item, "negative")) for item in knowledge
    )
    return [*knowledge_tree(knowledge, seed), *filter(None, negatives)]


def names_by_type(knowledge: Iterable[KnowledgeItem]) -> dict[str, list[str]]:
    """The distinct names of each type, in order of appearance, of the items whose data give one."""
    names: dict[str, dict[str, None]] = {}
    for item in knowledge:
        of_type = names.setdefault(item.type, {})
        if item.named:
            of_type[item.name] = None
    return {kind: list(distinct) for kind, distinct in names.items()}


def item_conversations(
    item: KnowledgeItem, seed: int, texts: GeneratedTexts, images: ImageSource, rounds: int = ROUNDS
) -> Iterator[Conversation]:
    """Dialogue of at most so many rounds, recognition, caption and short questions of one item.

    Branches without a text and short questions without a picture of their subject are left out, and so is whatever says
    the name of an item that has none: the dialogue's first round, the recognition, and the caption's first sentence.
    """
    sampler = TemplateSampler(item, seed)
    if texts.dialogue is not None:
        dialogue = [*_naming_round(sampler), *texts.dialogue][:rounds]
        if dialogue:
            yield make_conversation(item, "dialogue", item.picture, dialogue)
    recognition_picture, caption_picture = images.alike(item, 2)
    if item.named:
        question = sampler.fill("is this", templates.IS_THIS[item.group]) + templates.YES_NO
        yield make_conversation(item, "recognition", recognition_picture, [(question, "Yes")])
    if texts.summary is not None:
        question = sampler.fill("describe", templates.DESCRIBE[item.group]) + templates.ONE_PARAGRAPH
        depicts = templates.DEPICTS if item.named else ("{summary}",)
        caption = sampler.fill("depicts", depicts, summary=texts.summary).strip()
        yield make_conversation(item, "caption", caption_picture, [(question, caption)])
    for number, short in enumerate(texts.shorts or ()):
        picture = images.about(item, short, number)
        if picture is not None:
            question = short.question + templates.SHORT
            yield make_conversation(item, "vqa", picture, [(question, short.answer)], f"vqa/{number}")


def _naming_round(sampler: TemplateSampler) -> list[Round]:
    """The heuristic first round of a dialogue, which asks for the name; none for an item without a name."""
    item = sampler.item
    if not item.named:
        return []
    question = sampler.fill("what", templates.WHAT[item.group])
    return [(question, sampler.fill("this", templates.THIS[item.group]))]


def negative_recognition(item: KnowledgeItem, seed: int, names: Sequence[str], picture: Picture) -> Conversation | None:
    """A recognition question with another item's name, to be answered with No; None if there is no other name.

    An item without a name gets none either, for the other name might be its own.

    Args:
        item: The item that the picture shows.
        seed: Seed of wording and name.
        names: Names of the items of its type, in a fixed order.
        picture: Another picture of the item.
    """
    sampler = TemplateSampler(item, seed)
    others = [name for name in names if name.casefold() != item.name.casefold()]
    if not others or not item.named:
        return None
    other = sampler.rng("other name").choice(others).strip().rstrip(".")
    question = sampler.fill("is this other", templates.IS_THIS[item.group], name=other) + templates.YES_NO
    return make_conversation(item, NEGATIVE, picture, [(question, "No")])


def published_conversation(item: KnowledgeItem) -> Conversation:
    """EVOKE's own training sample: the item's question about its picture, answered by the knowledge text."""
    return make_conversation(item, "knowledge", item.picture, [(item.prompt, item.text)], "published")


def make_conversation(
    item: KnowledgeItem, branch: str, picture: Picture, rounds: Sequence[Round], slot: str = ""
) -> Conversation:
    """A conversation of questions and answers about one picture, which comes before the first question."""
    turns = [turn for question, answer in rounds for turn in (Turn("user", question), Turn("assistant", answer))]
    turns[0] = Turn("user", f"{IMAGE}\n{turns[0].text}")
    return Conversation(f"{item.id}/{slot or branch}", tuple(turns), (picture,), branch)
