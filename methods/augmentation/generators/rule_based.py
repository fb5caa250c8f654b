"""The offline generator: it writes by rule, from the item's own sentences and facts."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.records import KnowledgeItem
from methods.augmentation import templates as say
from methods.augmentation.generators.base import Fact, GeneratedTexts, Round, ShortQuestion
from methods.augmentation.text import contains_word, sentences, summary
from methods.augmentation.voice import TemplateSampler

SHORT_QUESTIONS = 5
"""Most short questions for an item."""


class RuleGenerator:
    """Deterministic: the same item and seed always give the same words. Satisfies ``Generator``."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def dialogue(self, item: KnowledgeItem) -> list[Round]:
        """Each fact, told in the text's own sentence where there is one; then the other sentences."""
        voice, told = TemplateSampler(item, self.seed), sentences(item.text)
        rounds = []
        for field, value in item.facts:
            asked = voice.say(f"ask/{field}", say.ASK_FACT, field=field)
            holding = [sentence for sentence in told if contains_word(sentence, value)]
            if holding:
                told.remove(holding[0])
                rounds.append((asked, holding[0]))
            else:
                rounds.append((asked, voice.say(f"tell/{field}", say.TELL_FACT, field=field, value=value)))
        first = voice.draw("more").randrange(len(say.ASK_MORE))
        for number, sentence in enumerate(told):
            rounds.append((say.ASK_MORE[(first + number) % len(say.ASK_MORE)], sentence))
        return rounds

    def summary(self, item: KnowledgeItem) -> str:
        """The text's beginning."""
        return summary(item.text)

    def shorts(self, item: KnowledgeItem) -> list[ShortQuestion]:
        """One question for each of the first five facts."""
        voice = TemplateSampler(item, self.seed)
        return [
            ShortQuestion(
                voice.say(f"short/{field}", say.SHORT_FACT[item.group], field=field), value, item.name, item.type
            )
            for field, value in item.facts[:SHORT_QUESTIONS]
        ]

    def facts(self, item: KnowledgeItem) -> Sequence[Fact]:
        """The item's own."""
        return item.facts

    def rephrased(self, item: KnowledgeItem, number: int) -> str:
        """The name, the facts in an order and wordings of this number's own, and the sentences that tell no fact."""
        voice = TemplateSampler(item, self.seed)
        facts = list(item.facts)
        rest = [each for each in sentences(item.text) if not any(contains_word(each, value) for _, value in facts)]
        voice.draw(f"order/{number}").shuffle(facts)
        if not facts:
            voice.draw(f"order/{number}").shuffle(rest)
        told = [
            voice.say(f"retell/{number}/{field}", say.TELL_FACT, field=field, value=value) for field, value in facts
        ]
        return " ".join([voice.say(f"name/{number}", say.THIS[item.group]), *told, *rest])

    def written(self, item: KnowledgeItem) -> GeneratedTexts:
        """All of it at once; a rule refuses nothing."""
        return GeneratedTexts(self.dialogue(item), self.summary(item), self.shorts(item))
