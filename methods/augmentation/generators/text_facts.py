"""Facts that an English text states in a form that a rule can read: for items that come without facts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from benchmarks.records import KnowledgeItem
from methods.augmentation.generators.base import Fact
from methods.augmentation.text_edits import sentences

_JOINED = r"(?:of|the|and|de|del|der|den|di|da|du|dos|la|le|el|al|van|von|bin)"
_WORD = r"(?:(?:[A-Z]|Mt|St|Dr)\.(?=\s)|[A-Z][\w'’-]*)"
NAME = rf"{_WORD}(?:(?:\s{_JOINED}){{0,2}}\s{_WORD})*"
"""Capitalised words, initials and a few abbreviations, with small words between them."""
_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
DATE = rf"(?:{_MONTH}\s\d{{1,2}},\s\d{{4}}|\d{{1,2}}\s{_MONTH}\s\d{{4}}|{_MONTH}\s\d{{4}}|\d{{4}})"
"""In American or British order, or a month or a year alone."""
NUMBER = r"\d[\d,.]*\d(?:\s(?:million|billion))?|\d(?:\s(?:million|billion))?"

BY = {
    "composed": "composer",
    "created": "creator",
    "designed": "designer",
    "developed": "developer",
    "directed": "director",
    "founded": "founder",
    "hosted": "host",
    "manufactured": "manufacturer",
    "painted": "painter",
    "produced": "producer",
    "published": "publisher",
    "written": "writer",
}
"""The field that a participle before "by" and a name says."""
IN_A_PLACE = {"based": "headquarters", "born": "place of birth", "headquartered": "headquarters", "located": "location"}
"""The field that a participle before "in" and a name says."""
AT_A_TIME = {
    "born": "date of birth",
    "completed": "completion date",
    "established": "founding date",
    "founded": "founding date",
    "launched": "launch date",
    "opened": "opening date",
    "premiered": "premiere date",
    "published": "publication date",
    "released": "release date",
}
"""The field that a participle before "in" or "on" and a date says."""

_PARTICIPLES = tuple(
    (re.compile(rf"\b((?i:{'|'.join(fields)}))\s{preposition}\s({value})(?!\w)"), fields)
    for fields, preposition, value in ((BY, "by", NAME), (IN_A_PLACE, "in", NAME), (AT_A_TIME, "(?:in|on)", DATE))
)
_FIELD = r"(?P<field>[a-z]+(?:\s[a-z]+){0,2})"
_IS = re.compile(
    rf"\b(?:[Ii]ts|[Hh]is|[Hh]er|[Tt]heir|[Tt]he)\s{_FIELD}(?:\sof\s(?P<subject>[^,;]+?))?\s(?:is|was)\s"
    rf"(?P<value>{DATE}|{NUMBER}|{NAME})(?!\w)"
)
_MONTH_NAME = re.compile(rf"{_MONTH}\b")
_PRONOUNS = ("he", "her", "his", "it", "its", "she", "that", "their", "they", "what", "which", "who")
_NO_FIELD = frozenset(
    (*_PRONOUNS, "first", "second", "third", "last", "next", "only", "other", "former", "latter", "one")
)
"""Words that are in no field: what is before "is" is then something else."""


def facts_in_text(item: KnowledgeItem) -> tuple[Fact, ...]:
    """The facts about an item that its text states, at most one of each field, in the order of the text.

    Read are "its capital is Yerevan", with any field and a name, a number or a date as value, and participles such as
    "directed by", "located in" and "released on". "The capital of Armenia is Yerevan" counts if Armenia is the item.
    A field may be about something else that a sentence mentions; how often the rule is right is in the documentation.
    """
    found: dict[str, str] = {}
    for sentence in sentences(item.text):
        for field, value in _facts_of(sentence, item):
            if not value.endswith(("'s", "’s")):  # the name is part of a longer value
                found.setdefault(field, value)
    return tuple(found.items())


def _facts_of(sentence: str, item: KnowledgeItem) -> Iterator[Fact]:
    for match in _IS.finditer(sentence):
        field, subject = match["field"], match["subject"]
        is_own = subject is None or subject.casefold() == item.given_name.casefold()
        if is_own and field != item.type.casefold() and _NO_FIELD.isdisjoint(field.split()):
            yield field, match["value"]
    for pattern, fields in _PARTICIPLES:
        for participle, value in pattern.findall(sentence):
            if fields is AT_A_TIME or not _MONTH_NAME.match(value):
                yield fields[participle.lower()], value
