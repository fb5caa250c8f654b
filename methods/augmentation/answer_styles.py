"""Answer-style diversification: ask for some knowledge in other styles, so that a stage does not teach a single one.

SEFE has a language model rewrite the samples. Here templates do it, with distractors taken from other items, those of
the same type first. To tell the two apart, we call ours SEFE-lite.

Source: SEFE, arXiv 2505.02486: yes/no with one distractor, multiple choice with three, a brief explanation of about 20
words, a detailed one of about 50. The split among the styles is not published; here it is even.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from benchmarks.records import IMAGE, Conversation, KnowledgeItem, Turn
from methods.augmentation import templates
from methods.augmentation.templates import TemplateSampler
from methods.augmentation.text_edits import summary

OPTIONS = "\nAnswer with the option's letter from the given choices directly."
BRIEF_WORDS = 20
DETAILED_WORDS = 50
REPLACED = ("published", "caption")
"""Id endings of the conversations that ask for an item's description, whose style is changed.

Conversations with other ids, such as those of a user's own folder, are left as they are."""

Round = tuple[str, str]
"""A question and its answer."""
Style = Callable[[TemplateSampler, Sequence[str]], Round]
"""From an item's sampler and the names of distractors to a question and its answer."""


def restyle(
    knowledge: Sequence[KnowledgeItem], conversations: Sequence[Conversation], share: float, seed: int
) -> list[Conversation]:
    """Rewrite the descriptions of some items in other styles; the conversations keep their order.

    Which items are chosen, their style and its wording depend on seed and ids, not on the items' order.

    Args:
        knowledge: All items; the others serve as distractors.
        conversations: The knowledge as published, or the knowledge tree.
        share: Share of the items to rewrite, in [0, 1]; split evenly among the styles.
        seed: Seed of the choice.
    """
    shuffled = sorted(knowledge, key=lambda item: TemplateSampler(item, seed).rng("style").random())
    rewritten: dict[str, tuple[str, Round]] = {}
    for number, item in enumerate(shuffled[: round(share * len(knowledge))]):
        styles = [style for style in STYLES if item.named or style not in NAMING]
        style = styles[number % len(styles)]
        question_and_answer = STYLES[style](TemplateSampler(item, seed), distractors(item, knowledge, seed))
        rewritten |= {f"{item.id}/{end}": (style, question_and_answer) for end in REPLACED}
    return [_replaced(sample, *rewritten[sample.id]) if sample.id in rewritten else sample for sample in conversations]


def distractors(item: KnowledgeItem, knowledge: Sequence[KnowledgeItem], seed: int) -> list[str]:
    """Names of other items in random order: those of its type, then those of its group, then the rest."""
    named = (other for other in sorted(knowledge, key=lambda each: each.id) if other.named)
    others = {other.name: other for other in named if other.name != item.name}
    names = list(others)
    TemplateSampler(item, seed).rng("distractors").shuffle(names)
    return sorted(names, key=lambda name: (others[name].type != item.type, others[name].group != item.group))


def _yes_no(sampler: TemplateSampler, others: Sequence[str]) -> Round:
    true = not others or sampler.rng("yes or no").random() < 0.5
    name = sampler.name if true else _stripped(others[0])
    question = sampler.fill("yes or no, asked", templates.IS_THIS[sampler.item.group], name=name)
    return question + templates.YES_NO, "Yes" if true else "No"


def _multiple_choice(sampler: TemplateSampler, others: Sequence[str]) -> Round:
    options = [sampler.name, *map(_stripped, others[:3])]
    sampler.rng("options").shuffle(options)
    lines = "".join(f"\n{letter}. {option}" for letter, option in zip("ABCD", options, strict=False))
    question = sampler.fill("choice, asked", templates.WHAT[sampler.item.group])
    return question + lines + OPTIONS, "ABCD"[options.index(sampler.name)]


def _explanation(words: int) -> Style:
    def style(sampler: TemplateSampler, others: Sequence[str]) -> Round:
        question = sampler.fill(f"{words} words, asked", templates.DESCRIBE[sampler.item.group])
        return f"{question} Answer in about {words} words.", summary(sampler.item.text, words)

    return style


STYLES: dict[str, Style] = {
    "yes-no": _yes_no,
    "multiple-choice": _multiple_choice,
    "brief": _explanation(BRIEF_WORDS),
    "detailed": _explanation(DETAILED_WORDS),
}
NAMING = ("yes-no", "multiple-choice")
"""The styles that say the item's name, which not every item has."""


def _replaced(sample: Conversation, style: str, question_and_answer: Round) -> Conversation:
    question, answer = question_and_answer
    turns = (Turn("user", f"{IMAGE}\n{question}"), Turn("assistant", answer))
    return dataclasses.replace(sample, turns=turns, branch=style)


def _stripped(name: str) -> str:
    return name.strip().rstrip(".")
