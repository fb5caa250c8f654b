"""The five steps of KORE-Augmentation: from what was written about an item to its conversations.

The trunk is a dialogue over the original picture; the branches are recognition, caption and short questions over
others.

Source: KORE, arXiv 2510.19316v2, section 3.2 and appendix I.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.records import IMAGE, Conversation, KnowledgeItem, Picture, Turn
from methods.augmentation import templates as say
from methods.augmentation.generators.base import GeneratedTexts, Round
from methods.augmentation.images.base import ImageSource
from methods.augmentation.voice import TemplateSampler

ROUNDS = 10
"""Most rounds of a dialogue, the heuristic first one included."""
NEGATIVE = "recognition-negative"
"""The branch of recognition questions whose answer is No; not in the paper."""


def conversations(
    item: KnowledgeItem, seed: int, written: GeneratedTexts, images: ImageSource
) -> Iterator[Conversation]:
    """The dialogue, recognition, caption and short questions of one item; what was refused is left out.

    A short question whose subject has no picture is left out too.
    """
    voice = TemplateSampler(item, seed)
    if written.dialogue is not None:
        first = (voice.say("what", say.WHAT[item.group]), voice.say("this", say.THIS[item.group]))
        yield conversation(item, "dialogue", item.picture, [first, *written.dialogue][:ROUNDS])
    recognised, captioned = images.alike(item, 2)
    asked = voice.say("is this", say.IS_THIS[item.group]) + say.YES_NO
    yield conversation(item, "recognition", recognised, [(asked, "Yes")])
    if written.summary is not None:
        asked = voice.say("describe", say.DESCRIBE[item.group]) + say.ONE_PARAGRAPH
        told = voice.say("depicts", say.DEPICTS, summary=written.summary).strip()
        yield conversation(item, "caption", captioned, [(asked, told)])
    for number, short in enumerate(written.shorts or ()):
        picture = images.about(item, short, number)
        if picture is not None:
            yield conversation(item, "vqa", picture, [(short.question + say.SHORT, short.answer)], f"vqa/{number}")


def negative(item: KnowledgeItem, seed: int, names: Sequence[str], picture: Picture) -> Conversation | None:
    """Recognition with another name, to be answered with No; None where every name is the item's own.

    Args:
        item: Shown.
        seed: Of wording and name.
        names: Those of other items of the same type, in a fixed order.
        picture: An other picture of the item.
    """
    voice = TemplateSampler(item, seed)
    others = [name for name in names if name.casefold() != item.name.casefold()]
    if not others:
        return None
    other = voice.draw("other name").choice(others).strip().rstrip(".")
    asked = voice.say("is this other", say.IS_THIS[item.group], name=other) + say.YES_NO
    return conversation(item, NEGATIVE, picture, [(asked, "No")])


def published(item: KnowledgeItem) -> Conversation:
    """EVOKE's own training sample: the item's question with its picture, answered by the knowledge text."""
    return conversation(item, "knowledge", item.picture, [(item.prompt, item.text)], "published")


def conversation(
    item: KnowledgeItem, branch: str, picture: Picture, rounds: Sequence[Round], slot: str = ""
) -> Conversation:
    """Rounds over one picture, which stands before the first question."""
    turns = [turn for asked, answered in rounds for turn in (Turn("user", asked), Turn("assistant", answered))]
    turns[0] = Turn("user", f"{IMAGE}\n{turns[0].text}")
    return Conversation(f"{item.id}/{slot or branch}", tuple(turns), (picture,), branch)
