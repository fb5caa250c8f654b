"""The writing rules of mini-MIA-Bench, and the check whether a response follows one."""

from __future__ import annotations

import re

CAPITALS = "write only in capital letters"
SMALL = "write only in small letters"
STOP = "end with a full stop"
THE = 'start with the word "The"'
QUOTED = "put the whole answer in quotation marks"

_MENTION = re.compile(r'mention "(.+)"')
_WORDS = re.compile(r"use exactly (\d+) words?")


def mention(text: str) -> str:
    """The rule that the response contains these words, ignoring case."""
    return f'mention "{text}"'


def words(count: int) -> str:
    """The rule that the response has this many words."""
    return f"use exactly {count} word{'s' if count != 1 else ''}"


def check(component: str, response: str) -> bool:
    """Whether the response follows the rule. An empty response follows none.

    Raises:
        ValueError: The component is unknown.
    """
    text = response.strip()
    bare = text.strip("\"'“”. ")
    if match := _MENTION.fullmatch(component):
        return re.search(rf"(?<!\w){re.escape(match[1])}(?!\w)", text, re.IGNORECASE) is not None
    if match := _WORDS.fullmatch(component):
        return len(text.split()) == int(match[1]) and bool(bare)
    if component == CAPITALS:
        return bool(bare) and text == text.upper() and text != text.lower()
    if component == SMALL:
        return bool(bare) and text == text.lower() and text != text.upper()
    if component == STOP:
        return bool(bare) and text.rstrip('"”').endswith(".")
    if component == THE:
        return re.match(r"[\"“]?the\b", text, re.IGNORECASE) is not None
    if component == QUOTED:
        return bool(bare) and len(text) > 2 and text[0] in '"“' and text[-1] in '"”'
    raise ValueError(f"unknown component {component!r}")
