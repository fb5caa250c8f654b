"""Metrics for short answers: EVOKE's CEM and F1, and a boundary-safe CEM without CEM's blind spot.

CEM and F1 give the same values as EVOKE's official code (``our_eval/code/tools.py``, ``evaluation/eval_acc_f1.py``),
but are an independent implementation.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable

ARTICLES = frozenset({"a", "an", "the"})
NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4",
    "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip

# The contractions of the VQA evaluation, whose table maps a word without one of its apostrophes to the full form.
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
"""
CONTRACTIONS = {
    word[: mark.start()] + word[mark.end() :]: word for word in _CONTRACTED.split() for mark in re.finditer("'", word)
} | {"somebody'd": "somebodyd"}  # the only entry that removes an apostrophe

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_GROUPED_DIGITS = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_FULL_STOPS_REMOVED = 32  # the official code passes re.UNICODE (32) as re.sub's count
_QUOTES = "'\"‘’“”"
_EDGE_QUOTES = re.compile(rf"(?<!\w)[{_QUOTES}]|[{_QUOTES}](?!\w)")


def normalize(text: str) -> str:
    """Normalise punctuation, case, number words, articles and contractions as CEM does.

    A punctuation mark is deleted if it occurs next to a space or if the text groups digits with commas; otherwise it is
    replaced by a space.
    """
    text = text.replace("\n", " ").replace("\t", " ").strip()
    grouped = _GROUPED_DIGITS.search(text) is not None
    spaced = text
    for mark in _MARKS:
        beside_space = f"{mark} " in text or f" {mark}" in text
        spaced = spaced.replace(mark, "" if grouped or beside_space else " ")
    words = (NUMBERS.get(word, word) for word in _FULL_STOP.sub("", spaced, count=_FULL_STOPS_REMOVED).lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def cem(prediction: str, gold: str) -> bool:
    r"""Cover exact match as in EVOKE's code: the gold occurs in the prediction between ``\b`` boundaries.

    A gold that begins or ends with something other than a letter, digit or underscore ("$2 billion", "29%", "'Tesla'")
    therefore almost never matches, not even itself; ``boundary_safe_cem`` fixes that.
    """
    return re.search(rf"\b{re.escape(normalize(gold))}\b", normalize(prediction)) is not None


def boundary_safe_cem(prediction: str, gold: str) -> bool:
    """CEM in which every gold matches itself: quotes around words are dropped, and only letters or digits end a match.

    A gold that consists only of articles or punctuation is compared verbatim.
    """
    needle = normalize(_EDGE_QUOTES.sub("", gold))
    if not needle:
        needle, prediction = gold.strip().lower(), prediction.lower()
        return bool(needle) and _contains_word(needle, prediction)
    return _contains_word(needle, normalize(_EDGE_QUOTES.sub("", prediction)))


def _contains_word(needle: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(needle)}(?!\w)", text) is not None


def f1(prediction: str, gold: str) -> float:
    """SQuAD-style F1: harmonic mean of precision and recall over shared words, counted with multiplicity."""
    predicted, expected = _words(prediction), _words(gold)
    if not predicted or not expected:
        return float(predicted == expected)
    shared = sum((Counter(predicted) & Counter(expected)).values())
    return 2 * shared / (len(predicted) + len(expected))


_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _words(text: str) -> list[str]:
    # Articles are removed before splitting, so that they end at any non-word character; "a-b" is "ab" by then.
    bare = text.lower().translate(_WITHOUT_PUNCTUATION)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def is_emptied(gold: str) -> bool:
    """Whether nothing is left of a gold after CEM's normalisation, as of "A", "The" or "?".

    Under CEM such a gold occurs in every prediction that has a word after normalisation, whatever it says.
    """
    return not normalize(gold)


def ceiling(golds: Iterable[str]) -> float:
    """Share (0-1) of golds that an answer can match under CEM: themselves, or any word if they are emptied."""
    matches = [is_emptied(gold) or cem(gold, gold) for gold in golds]
    return sum(matches) / len(matches) if matches else 0.0
