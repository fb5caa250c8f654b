"""A generator that gets a known share of its statements wrong.

KORE leaves open whether hallucinations of the generator harm. With errors of a known rate one can measure which of them
a filter finds, and what the others cost in K.A. Ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from benchmarks.records import KnowledgeItem
from methods.augmentation.generators.base import NO_TEXTS, Fact, GeneratedTexts
from methods.augmentation.generators.rule_based import RuleGenerator
from methods.augmentation.grounding import drop_unsupported
from methods.augmentation.templates import TemplateSampler
from methods.augmentation.text_edits import replace_word

ErrorKind = Literal["foreign", "mixed"]
"""``foreign``: the value that another item has, mostly words that the text does not contain. ``mixed``: the value of
another fact of the same item, so right words in a wrong relation."""
KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)


@dataclass(frozen=True)
class Statement:
    """One round of a dialogue, a summary or a short question, alone in ``texts``; ``error`` is None if it is right."""

    branch: Literal["dialogue", "caption", "vqa"]
    texts: GeneratedTexts
    error: ErrorKind | None = None


class InventingGenerator:
    """The rule-based generator, with errors in its statements about facts.

    Args:
        knowledge: All items: another item's value comes from one of the same type, if one has the field.
        seed: Seed of wordings and errors.
        rate: Probability that a statement that holds a fact is made wrong, half of them by each kind of error.
    """

    def __init__(self, knowledge: Sequence[KnowledgeItem], seed: int, rate: float) -> None:
        self._generator, self._seed, self._rate = RuleGenerator(seed), seed, rate
        self._values: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        for item in knowledge:
            for field, value in item.facts:
                self._values[item.type, field][value] = None
                self._values["", field][value] = None

    def statements(self, item: KnowledgeItem) -> Iterator[Statement]:
        """Write about an item and make some statements wrong, each on its own."""
        texts = self._generator.write(item)
        for number, (question, answer) in enumerate(texts.dialogue or ()):
            facts = item.facts[number : number + 1]  # the first rounds are about one fact each
            wrong, error = self._spoil(item, f"dialogue/{number}", answer, facts)
            yield Statement("dialogue", replace(NO_TEXTS, dialogue=[(question, wrong)]), error)
        if texts.summary is not None:
            wrong, error = self._spoil(item, "caption", texts.summary, item.facts)
            yield Statement("caption", replace(NO_TEXTS, summary=wrong), error)
        for number, short in enumerate(texts.shorts or ()):
            wrong, error = self._spoil(item, f"vqa/{number}", short.answer, item.facts[number : number + 1])
            yield Statement("vqa", replace(NO_TEXTS, shorts=[replace(short, answer=wrong)]), error)

    def write(self, item: KnowledgeItem, *, checked: bool) -> GeneratedTexts:
        """All branches, with their errors; ``checked`` drops what the string check finds."""
        texts = _join(self.statements(item))
        return drop_unsupported(item, texts)[0] if checked else texts

    def _spoil(self, item: KnowledgeItem, slot: str, text: str, facts: Sequence[Fact]) -> tuple[str, ErrorKind | None]:
        rng = TemplateSampler(item, self._seed).rng(f"error/{slot}")
        if rng.random() >= self._rate:
            return text, None
        for field, value in facts:
            kinds = rng.sample(KINDS, len(KINDS))
            for kind in kinds:
                others = self._wrong_values(item, field, kind)
                wrong = replace_word(text, value, rng.choice(others)) if others else text
                if wrong != text:
                    return wrong, kind
        return text, None

    def _wrong_values(self, item: KnowledgeItem, field: str, kind: ErrorKind) -> list[str]:
        own = {value.casefold() for name, value in item.facts if kind == "foreign" or name == field}
        found = [value for _, value in item.facts]
        if kind == "foreign":
            found = [*self._values[item.type, field]]
            if len(found) == 1:
                found = [*self._values["", field]]
        return [value for value in found if value.casefold() not in own]


def _join(statements: Iterator[Statement]) -> GeneratedTexts:
    every = list(statements)
    return GeneratedTexts(
        [part for each in every for part in each.texts.dialogue or ()],
        next((each.texts.summary for each in every if each.texts.summary is not None), None),
        [part for each in every for part in each.texts.shorts or ()],
    )
