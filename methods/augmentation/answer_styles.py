"""Answer-style diversification: some knowledge is asked for in other styles, so that a stage teaches no single one.

SEFE has a language model rewrite the samples; here templates do, with distractors taken from other items, the same
type's first. Its authors' name for the whole does not fit this, so we call it SEFE-lite.

Source: SEFE, arXiv 2505.02486: yes/no with one distractor, multiple choice with three, a brief explanation of about 20
words, a detailed one of about 50. The split among the styles is not published; here it is even.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from benchmarks.records import IMAGE, Conversation, KnowledgeItem, Turn
from methods.augmentation import templates as say
from methods.augmentation.text import summary
from methods.augmentation.voice import TemplateSampler

OPTIONS = "\nAnswer with the option's letter from the given choices directly."
BRIEF, DETAILED = 20, 50
"""Words of an explanation."""
REPLACED = ("published", "caption")
"""The conversations of an item, by the end of their ids, that ask for its description: these change their style.

Conversations that go by other ids, such as those of a folder of one's own, are left as they are."""

Round = tuple[str, str]
Style = Callable[[TemplateSampler, Sequence[str]], Round]


def restyle(
    knowledge: Sequence[KnowledgeItem], conversations: Sequence[Conversation], share: float, seed: int
) -> list[Conversation]:
    """The conversations in their order, with the descriptions of some items turned into other styles.

    Which items are chosen, their style and its wording follow from seed and ids, whatever the items' order.

    Args:
        knowledge: All items; others than the asked one serve as distractors.
        conversations: As published, or of the knowledge tree.
        share: Of the items, in [0, 1]; split evenly among the styles.
        seed: Of the choice.
    """
    chosen = sorted(knowledge, key=lambda item: TemplateSampler(item, seed).draw("style").random())
    rewritten: dict[str, tuple[str, Round]] = {}
    for number, item in enumerate(chosen[: round(share * len(knowledge))]):
        name = list(STYLES)[number % len(STYLES)]
        said = STYLES[name](TemplateSampler(item, seed), distractors(item, knowledge, seed))
        rewritten |= {f"{item.id}/{end}": (name, said) for end in REPLACED}
    return [_restyled(sample, *rewritten[sample.id]) if sample.id in rewritten else sample for sample in conversations]


def distractors(item: KnowledgeItem, knowledge: Sequence[KnowledgeItem], seed: int) -> list[str]:
    """Names of other items in a drawn order: those of its type, then of its group, then the rest."""
    others = {each.name: each for each in sorted(knowledge, key=lambda each: each.id) if each.name != item.name}
    names = list(others)
    TemplateSampler(item, seed).draw("distractors").shuffle(names)
    return sorted(names, key=lambda name: (others[name].type != item.type, others[name].group != item.group))


def _yes_no(voice: TemplateSampler, others: Sequence[str]) -> Round:
    true = not others or voice.draw("yes or no").random() < 0.5
    asked = voice.say("yes or no, asked", say.IS_THIS[voice.item.group], name=voice.name if true else _plain(others[0]))
    return asked + say.YES_NO, "Yes" if true else "No"


def _choice(voice: TemplateSampler, others: Sequence[str]) -> Round:
    options = [voice.name, *map(_plain, others[:3])]
    voice.draw("options").shuffle(options)
    lines = "".join(f"\n{letter}. {option}" for letter, option in zip("ABCD", options, strict=False))
    asked = voice.say("choice, asked", say.WHAT[voice.item.group])
    return asked + lines + OPTIONS, "ABCD"[options.index(voice.name)]


def _explained(words: int) -> Style:
    def style(voice: TemplateSampler, others: Sequence[str]) -> Round:
        asked = voice.say(f"{words} words, asked", say.DESCRIBE[voice.item.group])
        return f"{asked} Answer in about {words} words.", summary(voice.item.text, words)

    return style


STYLES: dict[str, Style] = {
    "yes-no": _yes_no,
    "multiple-choice": _choice,
    "brief": _explained(BRIEF),
    "detailed": _explained(DETAILED),
}


def _restyled(sample: Conversation, style: str, said: Round) -> Conversation:
    turns = (Turn("user", f"{IMAGE}\n{said[0]}"), Turn("assistant", said[1]))
    return dataclasses.replace(sample, turns=turns, branch=style)


def _plain(name: str) -> str:
    return name.strip().rstrip(".")
