"""The offline generator: it writes by rule, from the item's own sentences and facts, or those that its text states."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.records import KnowledgeItem
from methods.augmentation import templates
from methods.augmentation.generators.base import Fact, GeneratedTexts, Round, ShortQuestion
from methods.augmentation.generators.text_facts import facts_in_text
from methods.augmentation.templates import TemplateSampler
from methods.augmentation.text_edits import contains_word, sentences, summary

SHORT_QUESTIONS = 5
"""Maximum number of short questions about an item."""


class RuleGenerator:
    """Deterministic: the same item and seed always give the same texts. Satisfies ``Generator``."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def write(self, item: KnowledgeItem) -> GeneratedTexts:
        """Write all branches; a rule refuses none."""
        return GeneratedTexts(self.dialogue(item), self.summary(item), self.shorts(item))

    def dialogue(self, item: KnowledgeItem) -> list[Round]:
        """Ask for each fact, answered by the text's own sentence if there is one; then add the other sentences."""
        sampler, rest = TemplateSampler(item, self.seed), sentences(item.text)
        rounds = []
        for field, value in self.facts(item):
            question = sampler.fill(f"ask/{field}", templates.ASK_FACT, field=field)
            own = next((sentence for sentence in rest if contains_word(sentence, value)), None)
            if own is not None:
                rest.remove(own)
                rounds.append((question, own))
            else:
                answer = sampler.fill(f"tell/{field}", templates.TELL_FACT, field=field, value=value)
                rounds.append((question, answer))
        first = sampler.rng("more").randrange(len(templates.ASK_MORE))
        for number, sentence in enumerate(rest):
            rounds.append((templates.ASK_MORE[(first + number) % len(templates.ASK_MORE)], sentence))
        return rounds

    def summary(self, item: KnowledgeItem) -> str:
        """The beginning of the text."""
        return summary(item.text)

    def shorts(self, item: KnowledgeItem) -> list[ShortQuestion]:
        """One question for each of the first five facts."""
        sampler, wordings = TemplateSampler(item, self.seed), templates.SHORT_FACT[item.group]
        return [
            ShortQuestion(sampler.fill(f"short/{field}", wordings, field=field), value, item.name, item.type)
            for field, value in self.facts(item)[:SHORT_QUESTIONS]
        ]

    def facts(self, item: KnowledgeItem) -> Sequence[Fact]:
        """The item's own facts or, if it has none, those that a rule finds in the text."""
        return item.facts or facts_in_text(item)

    def rephrase(self, item: KnowledgeItem, number: int) -> str:
        """The name if there is one, the facts in another order and wording, and the sentences that contain no fact."""
        sampler = TemplateSampler(item, self.seed)
        facts = list(self.facts(item))
        rest = [text for text in sentences(item.text) if not any(contains_word(text, value) for _, value in facts)]
        sampler.rng(f"order/{number}").shuffle(facts)
        if not facts:
            sampler.rng(f"order/{number}").shuffle(rest)
        retold = [
            sampler.fill(f"retell/{number}/{field}", templates.TELL_FACT, field=field, value=value)
            for field, value in facts
        ]
        named = [sampler.fill(f"name/{number}", templates.THIS[item.group])] if item.named else []
        return " ".join([*named, *retold, *rest])
