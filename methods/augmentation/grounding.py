"""Does an item say what was generated about it? Strings and numbers are looked for in its text.

A string check finds what was made up outright: a name, a number, a word that the text lacks. It does not find a wrong
relation between right words; for that there are judges.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from benchmarks.records import KnowledgeItem

SHARE = 0.5
"""Of a sentence's content words that the item must have."""

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


class SupportChecker(Protocol):
    """Tells whether an item's text supports statements."""

    def supported(self, item: KnowledgeItem, statements: Sequence[str]) -> list[bool]:
        """One verdict for each statement."""


@dataclass(frozen=True)
class SourceText:
    """What an item says, as words and numbers."""

    item: KnowledgeItem

    @cached_property
    def text(self) -> str:
        """Everything that it says, in one case."""
        item = self.item
        facts = " ".join(f"{field} {value}" for field, value in item.facts)
        return _folded(f"{item.name} {item.type} {item.text} {facts} {item.prompt}")

    @cached_property
    def words(self) -> frozenset[str]:
        """Their stems, and numbers in digits."""
        return frozenset(_stem(word) for word in _WORD.findall(self.text))

    def has(self, word: str) -> bool:
        """Whether the item has a word in some form; a word of another script may stand inside a longer one."""
        folded = _folded(word)
        return _stem(folded) in self.words or (not folded.isascii() and folded in self.text)


def unsupported_reason(source: SourceText, statement: str, *, short: bool = False, question: bool = False) -> str:
    """Why an item does not support a statement, or nothing where no fault is found.

    Every number must be the item's, and every name (a capitalised word inside a sentence). Of a sentence's content
    words half must be, of a short answer's all; of a question's none need be.
    """
    statement = unicodedata.normalize("NFKC", statement)  # as the source was: ① would cut words elsewhere
    found = [(match.group(), match.start()) for match in _WORD.finditer(statement)]
    for word, start in found:
        if not source.has(word) and (_is_number(word) or _is_name(statement, word, start)):
            return f"{'number' if _is_number(word) else 'name'} not in the text"
    content = [word for word, _ in found if _folded(word) not in _STOP]
    known = sum(source.has(word) for word in content)
    if short and (known < len(content) or not found):
        return "answer not in the text"
    if not (short or question) and known < SHARE * len(content):
        return "too little of it in the text"
    return ""


def _is_number(word: str) -> bool:
    return word[0].isdigit() or _folded(word) in _NUMBERS[2:]


def _is_name(statement: str, word: str, start: int) -> bool:
    before = statement[:start].rstrip(" \"'(“‘")
    return word[0].isupper() and bool(before) and before[-1] not in ".!?:;" and _folded(word) not in _STOP


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _stem(word: str) -> str:
    """A number in digits without separators; of another word what is left without its ending."""
    if word[0].isdigit():
        plain = word.replace(",", "")
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    if word in _NUMBERS:
        return str(_NUMBERS.index(word))
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word
