"""KORE-Augmentation: from one piece of knowledge to a tree of conversations, by rule.

The trunk is a dialogue over the original picture; the branches are recognition, caption and short questions. The paper
has GPT-4o write the questions and takes further pictures from an image search; here both come from the item's own text,
facts and picture. The generator is given knowledge items and nothing else, so it cannot see an evaluation question.

Source: KORE, arXiv 2510.19316v2, section 3.2 and appendix I.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from benchmarks.records import IMAGE, Conversation, KnowledgeItem, Picture, Turn
from methods.augmentation import templates as say
from methods.augmentation.pictures import edited

ROUNDS = 10
"""Most rounds of a dialogue, the heuristic first one included."""
SHORT_QUESTIONS = 5
"""Most short questions for an item."""
SUMMARY_WORDS = 25

_ABBREVIATION = re.compile(r"(?:\b[A-Z]|\b(?:Mr|Mrs|Ms|Dr|St|Mt|Jr|Sr|vs|No|Inc|Ltd|Co|e\.g|i\.e))\.$")
Round = tuple[str, str]


def knowledge_tree(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    """All conversations of all items: for each a dialogue, a recognition, a caption and up to five short questions.

    Wordings and edits are drawn by a hash of seed, item and slot, so each item's conversations are the same whatever
    other items there are and in whatever order.
    """
    return [conversation for item in knowledge for conversation in _Tree(item, seed).conversations()]


def branch_counts(conversations: Iterable[Conversation]) -> dict[str, int]:
    """How many conversations each branch has."""
    return dict(Counter(conversation.branch for conversation in conversations))


def sentences(text: str) -> list[str]:
    """A text's sentences; a full stop after an initial or a common abbreviation ends none."""
    found: list[str] = []
    for piece in re.split(r"(?<=[.!?])\s+", " ".join(text.split())):
        if found and _ABBREVIATION.search(found[-1]):
            found[-1] = f"{found[-1]} {piece}"
        elif piece:
            found.append(piece)
    return found


def summary(text: str, limit: int = SUMMARY_WORDS) -> str:
    """The leading sentences, at most ``limit`` words; a first sentence that is longer is cut."""
    kept: list[str] = []
    for sentence in sentences(text):
        if len(kept) + len(sentence.split()) > limit:
            break
        kept += sentence.split()
    if kept:
        return " ".join(kept)
    words = text.split()[:limit]
    return " ".join(words).rstrip(",;:.") + "." if words else ""


class _Tree:
    """The conversations of one item."""

    def __init__(self, item: KnowledgeItem, seed: int) -> None:
        self.item, self.seed = item, seed

    def conversations(self) -> Iterator[Conversation]:
        group, picture = self.item.group, self.item.picture
        yield self._conversation("dialogue", picture, self._dialogue())
        asked = self._say("is this", say.IS_THIS[group]) + say.YES_NO
        yield self._conversation("recognition", self._edited("recognition"), [(asked, "Yes")])
        asked = self._say("describe", say.DESCRIBE[group]) + say.ONE_PARAGRAPH
        told = self._say("depicts", say.DEPICTS, summary=summary(self.item.text)).strip()
        yield self._conversation("caption", self._edited("caption"), [(asked, told)])
        for number, (field, value) in enumerate(self.item.facts[:SHORT_QUESTIONS]):
            asked = self._say(f"short/{field}", say.SHORT_FACT[group], field=field) + say.SHORT
            slot = f"vqa/{number}"
            yield self._conversation("vqa", self._edited(slot), [(asked, value)], slot)

    def _dialogue(self) -> list[Round]:
        """What it is; then each fact, told in the text's own sentence where there is one; then the other sentences."""
        group, told = self.item.group, list(sentences(self.item.text))
        rounds = [(self._say("what", say.WHAT[group]), self._say("this", say.THIS[group]))]
        for field, value in self.item.facts:
            asked = self._say(f"ask/{field}", say.ASK_FACT, field=field)
            holding = [sentence for sentence in told if _holds(sentence, value)]
            if holding:
                told.remove(holding[0])
                rounds.append((asked, holding[0]))
            else:
                rounds.append((asked, self._say(f"tell/{field}", say.TELL_FACT, field=field, value=value)))
        first = self._draw("more").randrange(len(say.ASK_MORE))
        for number, sentence in enumerate(told):
            rounds.append((say.ASK_MORE[(first + number) % len(say.ASK_MORE)], sentence))
        return rounds[:ROUNDS]

    def _conversation(self, branch: str, picture: Picture, rounds: list[Round], slot: str = "") -> Conversation:
        turns = [Turn(role, text) for q, a in rounds for role, text in (("user", q), ("assistant", a))]  # type: ignore[arg-type]
        turns[0] = Turn("user", f"{IMAGE}\n{turns[0].text}")
        return Conversation(f"{self.item.id}/{slot or branch}", tuple(turns), (picture,), branch)

    def _edited(self, slot: str) -> Picture:
        return edited(self.item.picture, self._draw(f"picture/{slot}"))

    def _say(self, slot: str, wordings: say.Five, **parts: str) -> str:
        name = self.item.name.strip().rstrip(".")
        return self._draw(slot).choice(wordings).format(name=name, type=self.item.type, **parts)

    def _draw(self, slot: str) -> random.Random:
        digest = hashlib.sha256(f"{self.seed}/{self.item.id}/{slot}".encode()).digest()
        return random.Random(int.from_bytes(digest[:8], "big"))


def _holds(sentence: str, value: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", sentence, re.IGNORECASE) is not None
