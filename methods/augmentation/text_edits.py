"""Sentences and summaries of a text, and four small random edits of its words.

The edits are the baseline text augmentations that know nothing of the knowledge. Source: Wei and Zou, "EDA: Easy Data
Augmentation", 2019, arXiv 1901.11196; a tenth of the words is changed. Synonyms come from WordNet. The packages that
offer these edits download word lists at run time or draw from global random state, but a training sample must come out
the same everywhere.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

SUMMARY_WORDS = 25
"""Maximum number of words in a caption's summary. Source: KORE, appendix I."""
EDITED_SHARE = 0.1
"""Share of the words that an edit changes; at least one word."""

_ABBREVIATION = re.compile(r"(?:\b[A-Z]|\b(?:Mr|Mrs|Ms|Dr|St|Mt|Jr|Sr|vs|No|Inc|Ltd|Co|e\.g|i\.e))\.$")
_WORD = re.compile(r"^(\W*)(.*?)(\W*)$", re.DOTALL)
Edit = Callable[[list[str], random.Random], list[str]]


def sentences(text: str) -> list[str]:
    """Split a text into sentences; a full stop after an initial or a common abbreviation does not end one."""
    found: list[str] = []
    for piece in re.split(r"(?<=[.!?])\s+", " ".join(text.split())):
        if found and _ABBREVIATION.search(found[-1]):
            found[-1] = f"{found[-1]} {piece}"
        elif piece:
            found.append(piece)
    return found


def summary(text: str, limit: int = SUMMARY_WORDS) -> str:
    """The leading sentences, at most ``limit`` words in all; if the first sentence is longer, its beginning."""
    words: list[str] = []
    for sentence in sentences(text):
        if len(words) + len(sentence.split()) > limit:
            break
        words += sentence.split()
    if words:
        return " ".join(words)
    words = text.split()[:limit]
    return " ".join(words).rstrip(",;:.") + "." if words else ""


def contains_word(sentence: str, value: str) -> bool:
    """Whether a sentence contains a value as whole words, ignoring case."""
    return _whole_words(value).search(sentence) is not None


def replace_word(sentence: str, value: str, other: str) -> str:
    """Put another value wherever a sentence contains the first one as whole words, ignoring case."""
    return _whole_words(value).sub(lambda _: other, sentence)


def _whole_words(value: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(value)}(?!\w)", re.IGNORECASE)


@cache
def synonyms() -> Mapping[str, tuple[str, ...]]:
    """Synonyms of common English words."""
    lines = Path(__file__).with_name("synonyms.tsv").read_text("utf-8").splitlines()
    rows = (line.split("\t") for line in lines if not line.startswith("#"))
    return {word: tuple(others.split()) for word, others in rows}


def replace(words: list[str], rng: random.Random) -> list[str]:
    """Replace some words by a synonym."""
    changed = list(words)
    places = [place for place, word in enumerate(words) if _bare(word) in synonyms()]
    for place in rng.sample(places, min(_count(words), len(places))):
        before, word, after = _parts(words[place])
        other = rng.choice(synonyms()[word.lower()])
        changed[place] = before + (other.capitalize() if word[:1].isupper() else other) + after
    return changed


def insert(words: list[str], rng: random.Random) -> list[str]:
    """Insert synonyms of some words at random places."""
    changed = list(words)
    candidates = [_bare(word) for word in words if _bare(word) in synonyms()]
    for word in rng.sample(candidates, min(_count(words), len(candidates))):
        changed.insert(rng.randrange(len(changed) + 1), rng.choice(synonyms()[word]))
    return changed


def swap(words: list[str], rng: random.Random) -> list[str]:
    """Swap some pairs of words."""
    changed = list(words)
    for _ in range(_count(words) if len(words) > 1 else 0):
        first, second = rng.sample(range(len(words)), 2)
        changed[first], changed[second] = changed[second], changed[first]
    return changed


def delete(words: list[str], rng: random.Random) -> list[str]:
    """Delete some words, but never all."""
    deleted = set(rng.sample(range(len(words)), min(_count(words), max(len(words) - 1, 0))))
    return [word for place, word in enumerate(words) if place not in deleted]


EDITS: Mapping[str, Edit] = {"synonym": replace, "insertion": insert, "swap": swap, "deletion": delete}


def edit_text(text: str, edit: str, rng: random.Random) -> str:
    """Apply one of ``EDITS``; the result has single spaces."""
    return " ".join(EDITS[edit](text.split(), rng))


def _count(words: list[str]) -> int:
    return max(1, round(EDITED_SHARE * len(words)))


def _parts(word: str) -> tuple[str, str, str]:
    """A word's leading punctuation, the word itself, and its trailing punctuation."""
    match = _WORD.match(word)
    return (match[1], match[2], match[3]) if match else ("", word, "")


def _bare(word: str) -> str:
    return _parts(word)[1].lower()
