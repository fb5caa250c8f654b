"""Keep only those generated statements that the item supports.

A string check finds what was made up outright: a name, a number or a word that the item's text does not contain. It
does not find a wrong relation between right words; an entailment model or a chat model can check that too.
"""

from __future__ import annotations

import dataclasses
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

from benchmarks.errors import UserError
from benchmarks.records import KnowledgeItem
from methods.augmentation.generators.base import GeneratedTexts, Round, ShortQuestion
from methods.augmentation.hf_loading import load_model

SUPPORTED_SHARE = 0.5
"""Share of a sentence's content words that the item must contain."""
ENTAILED = 0.5
"""Probability of entailment from which a statement counts as supported."""

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_COMMON = """
a an and are as at be been being but by can could did do does for from had has have he her here him his how i if in
into is it its may me might more most much my no not of on one or our out over own she should so some such than that the
their them then there these they this those to too two under up very was we were what when where which who whom whose
why will with would yes you your also called known image picture shown shows seen see tell say says said about name
named kind type
"""
_STOP = frozenset(_COMMON.split())
_WORD = re.compile(r"\d[\d.,]*\d|\d|[^\W\d_]+(?:['’][^\W\d_]+)?")
_ENDINGS = ("'s", "’s", "ies", "ing", "ed", "es", "ly", "s")

Part = TypeVar("Part", Round, ShortQuestion)


class SupportChecker(Protocol):
    """Tells whether an item's text supports statements."""

    def supported(self, item: KnowledgeItem, statements: Sequence[str]) -> list[bool]:
        """Return one verdict for each statement."""


class EntailmentChecker:
    """Asks a model whether the item's text entails each statement. Satisfies ``SupportChecker``.

    Args:
        folder: A sequence classifier for natural language inference, in Hugging Face layout.

    Raises:
        UserError: The folder holds no such model.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self._model, self._tokenizer, _ = load_model(folder, AutoModelForSequenceClassification, AutoTokenizer)
        labels = {str(name).casefold(): int(number) for number, name in self._model.config.id2label.items()}
        if "entailment" not in labels:
            raise UserError(
                f"none of its labels is called entailment: {', '.join(labels)}",
                location=str(folder / "config.json"),
                hint="give a model for natural language inference",
            )
        self._label, self._lock = labels["entailment"], threading.Lock()

    def supported(self, item: KnowledgeItem, statements: Sequence[str]) -> list[bool]:
        """Judge each statement on its own, with name and text as the premise."""
        import torch

        premises = [f"{item.name}. {item.text}" if item.named else item.text] * len(statements)
        with self._lock, torch.inference_mode():
            batch = self._tokenizer(
                premises, list(statements), return_tensors="pt", padding=True, truncation="only_first"
            )
            probabilities = self._model(**batch).logits.softmax(-1)[:, self._label]
        return [bool(probability >= ENTAILED) for probability in probabilities]


@dataclasses.dataclass(frozen=True)
class SourceText:
    """Everything that an item says, as words and numbers."""

    item: KnowledgeItem

    @cached_property
    def text(self) -> str:
        """All of the item's text, case-folded."""
        item = self.item
        facts = " ".join(f"{field} {value}" for field, value in item.facts)
        return _folded(f"{item.given_name} {item.type} {item.text} {facts} {item.prompt}")

    @cached_property
    def words(self) -> frozenset[str]:
        """Stems of its words, and its numbers in digits."""
        return frozenset(_stem(word) for word in _WORD.findall(self.text))

    def contains(self, word: str) -> bool:
        """Whether the item has a word in some form; words in other scripts may be part of a longer one."""
        folded = _folded(word)
        return _stem(folded) in self.words or (not folded.isascii() and folded in self.text)


def unsupported_reason(source: SourceText, statement: str, *, short: bool = False, question: bool = False) -> str:
    """Why an item does not support a statement; "" if the check finds no fault.

    Every number and every name (a capitalised word inside a sentence) must be the item's. So must half of a sentence's
    content words, and all of a short answer's; a question's may be any.
    """
    statement = unicodedata.normalize("NFKC", statement)  # as the source: characters such as ① would split words
    words = [(match.group(), match.start()) for match in _WORD.finditer(statement)]
    for word, start in words:
        if not source.contains(word) and (_is_number(word) or _is_name(statement, word, start)):
            return f"{'number' if _is_number(word) else 'name'} not in the text"
    content = [word for word, _ in words if _folded(word) not in _STOP]
    supported = sum(source.contains(word) for word in content)
    if short and (supported < len(content) or not words):
        return "answer not in the text"
    if not (short or question) and supported < SUPPORTED_SHARE * len(content):
        return "too little of it in the text"
    return ""


def drop_unsupported(
    item: KnowledgeItem, texts: GeneratedTexts, judge: SupportChecker | None = None
) -> tuple[GeneratedTexts, Counter[str]]:
    """Drop the generated rounds, summary and short questions that the item does not support.

    Args:
        item: The item that they are about.
        texts: What a generator wrote.
        judge: Asked about what the string check lets pass.

    Returns:
        What is left, and how often each reason, as "branch: reason", led to a drop.

    Raises:
        GenerationRefused: The judge gave nothing usable.
    """
    source, dropped = SourceText(item), Counter[str]()

    def keep(branch: str, parts: Sequence[Part], faults: Sequence[str], statements: Sequence[str]) -> list[Part]:
        dropped.update(f"{branch}: {fault}" for fault in faults if fault)
        kept = [
            (part, statement) for part, statement, fault in zip(parts, statements, faults, strict=True) if not fault
        ]
        if judge is not None and kept:
            verdicts = judge.supported(item, [statement for _, statement in kept])
            dropped.update(f"{branch}: not supported, says the judge" for supported in verdicts if not supported)
            kept = [pair for pair, supported in zip(kept, verdicts, strict=True) if supported]
        return [part for part, _ in kept]

    dialogue, summary, shorts = texts.dialogue, texts.summary, texts.shorts
    if dialogue is not None:
        faults = [unsupported_reason(source, q, question=True) or unsupported_reason(source, a) for q, a in dialogue]
        dialogue = keep("dialogue", dialogue, faults, [f"{question} {answer}" for question, answer in dialogue])
    if summary is not None:
        kept = keep("caption", [("", summary)], [unsupported_reason(source, summary)], [summary])
        summary = kept[0][1] if kept else None
    if shorts is not None:
        statements = [f"{short.question} (the {short.hypernym} is {short.subject}) {short.answer}" for short in shorts]
        shorts = keep("vqa", shorts, [_short_fault(source, short) for short in shorts], statements)
    return GeneratedTexts(dialogue, summary, shorts), dropped


def _short_fault(source: SourceText, short: ShortQuestion) -> str:
    return (
        unsupported_reason(source, short.question, question=True)
        or unsupported_reason(source, short.answer, short=True)
        or ("subject not in the text" if unsupported_reason(source, short.subject, short=True) else "")
    )


def _is_number(word: str) -> bool:
    return word[0].isdigit() or _folded(word) in _NUMBERS[2:]


def _is_name(statement: str, word: str, start: int) -> bool:
    before = statement[:start].rstrip(" \"'(“‘")
    return word[0].isupper() and bool(before) and before[-1] not in ".!?:;" and _folded(word) not in _STOP


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _stem(word: str) -> str:
    """A number in digits without separators; any other word without its ending."""
    if word[0].isdigit():
        plain = word.replace(",", "")
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    if word in _NUMBERS:
        return str(_NUMBERS.index(word))
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
