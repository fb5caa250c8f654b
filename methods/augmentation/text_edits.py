"""The baseline text augmentations that know nothing of the knowledge: four small random edits of words.

Source: Wei and Zou, "EDA: Easy Data Augmentation", 2019, arXiv 1901.11196; a tenth of the words is changed. Synonyms
come from WordNet. The packages that offer this download word lists at run time or draw from global random state, and a
training sample must come out the same everywhere.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

SHARE = 0.1
"""Of the words that are changed; at least one."""

_WORD = re.compile(r"^(\W*)(.*?)(\W*)$", re.DOTALL)
Edit = Callable[[list[str], random.Random], list[str]]


@cache
def synonyms() -> Mapping[str, tuple[str, ...]]:
    """Common English word to others of the same meaning."""
    lines = Path(__file__).with_name("synonyms.tsv").read_text("utf-8").splitlines()
    rows = (line.split("\t") for line in lines if not line.startswith("#"))
    return {word: tuple(others.split()) for word, others in rows}


def replace(words: list[str], draw: random.Random) -> list[str]:
    """Some words give way to a synonym."""
    changed = list(words)
    known = [place for place, word in enumerate(words) if _bare(word) in synonyms()]
    for place in draw.sample(known, min(_count(words), len(known))):
        before, word, after = _parts(words[place])
        other = draw.choice(synonyms()[word.lower()])
        changed[place] = before + (other.capitalize() if word[:1].isupper() else other) + after
    return changed


def insert(words: list[str], draw: random.Random) -> list[str]:
    """Synonyms of some words come in at random places."""
    changed = list(words)
    known = [_bare(word) for word in words if _bare(word) in synonyms()]
    for word in draw.sample(known, min(_count(words), len(known))):
        changed.insert(draw.randrange(len(changed) + 1), draw.choice(synonyms()[word]))
    return changed


def swap(words: list[str], draw: random.Random) -> list[str]:
    """Some pairs of words change places."""
    changed = list(words)
    for _ in range(_count(words) if len(words) > 1 else 0):
        one, other = draw.sample(range(len(words)), 2)
        changed[one], changed[other] = changed[other], changed[one]
    return changed


def delete(words: list[str], draw: random.Random) -> list[str]:
    """Some words go; one always stays."""
    gone = set(draw.sample(range(len(words)), min(_count(words), max(len(words) - 1, 0))))
    return [word for place, word in enumerate(words) if place not in gone]


EDITS: Mapping[str, Edit] = {"synonym": replace, "insertion": insert, "swap": swap, "deletion": delete}


def edited_text(text: str, edit: str, draw: random.Random) -> str:
    """The text after one of ``EDITS``, with single spaces."""
    return " ".join(EDITS[edit](text.split(), draw))


def _count(words: list[str]) -> int:
    return max(1, round(SHARE * len(words)))


def _parts(word: str) -> tuple[str, str, str]:
    found = _WORD.match(word)
    return (found[1], found[2], found[3]) if found else ("", word, "")


def _bare(word: str) -> str:
    return _parts(word)[1].lower()
