"""A text's sentences, and its beginning as a summary."""

from __future__ import annotations

import re

SUMMARY_WORDS = 25
"""Most words of a caption's summary. Source: KORE, appendix I."""

_ABBREVIATION = re.compile(r"(?:\b[A-Z]|\b(?:Mr|Mrs|Ms|Dr|St|Mt|Jr|Sr|vs|No|Inc|Ltd|Co|e\.g|i\.e))\.$")


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


def contains_word(sentence: str, value: str) -> bool:
    """Whether a sentence holds a value as whole words, in whatever case."""
    return re.search(rf"(?<!\w){re.escape(value)}(?!\w)", sentence, re.IGNORECASE) is not None
