"""Data types of the builders, and helpers for names and sentences."""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Any

Row = dict[str, Any]
"""An entity or news item of world.json."""
Pngs = dict[tuple[str, str], bytes]
"""(entity id, style) -> PNG bytes."""

_FOLDED = str.maketrans(
    {"ø": "o", "Ø": "O", "ð": "d", "ł": "l", "ß": "ss", "æ": "ae", "ı": "i", "ə": "e", "Ə": "E", "đ": "d"}
)


def plain(text: str) -> str:
    """Strip markup and fold letters to ASCII: the miniature's tokenizer does not cover every script."""
    text = html.unescape(re.sub(r"<[^>]+>", " ", text)).replace("’", "'").replace("–", "-")
    text = text.translate(_FOLDED)
    folded = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"\s+", " ", folded).strip()


def slug(name: str) -> str:
    """A name in the form of an id: "DR Congo" -> "dr-congo"."""
    return re.sub(r"[^a-z0-9]+", "-", plain(name).lower()).strip("-")


def article(noun: str) -> str:
    """The noun with "a" or "an" before it."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def sentence(text: str) -> str:
    """The text with a capital first letter and a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def mentions(text: str, name: str) -> bool:
    """Whether the name occurs in the text as whole words, ignoring case."""
    return re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", text.lower()) is not None
