"""How one short answer is compared with its gold: EVOKE's CEM and F1, and a CEM without CEM's blind spot.

Both give what the official evaluation code gives (``our_eval/code/tools.py`` and ``evaluation/eval_acc_f1.py`` of
EVOKE); they were written anew from a description in words.
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

# The contractions of the VQA evaluation. Its table maps a word that lacks one apostrophe to the whole word.
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
} | {"somebody'd": "somebodyd"}  # the one entry that takes an apostrophe away

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_GROUPED_DIGITS = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_FULL_STOPS_REMOVED = 32  # the official code passes re.UNICODE (32) where the number of replacements belongs
_QUOTES = "'\"‘’“”"
_EDGE_QUOTES = re.compile(rf"(?<!\w)[{_QUOTES}]|[{_QUOTES}](?!\w)")


def normalised(text: str) -> str:
    """Text as CEM compares it: punctuation, case, number words, articles and contractions levelled.

    A mark is deleted where the text has it next to a space, or groups digits with commas; otherwise it becomes a space.
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
    r"""Cover exact match, exactly as EVOKE's code has it: the gold stands in the prediction between ``\b`` boundaries.

    A gold that begins or ends with a sign that is no letter, digit or underscore ("$2 billion", "29%", "'Tesla'") can
    therefore hardly ever be found, not even in itself; ``boundary_safe_cem`` mends that.
    """
    return re.search(rf"\b{re.escape(normalised(gold))}\b", normalised(prediction)) is not None


def boundary_safe_cem(prediction: str, gold: str) -> bool:
    """CEM that finds every gold in itself: quotes around words are dropped, and only letters or digits bound a match.

    A gold of nothing but articles or marks is compared as it is written.
    """
    needle = normalised(_EDGE_QUOTES.sub("", gold))
    if not needle:
        needle, prediction = gold.strip().lower(), prediction.lower()
        return bool(needle) and _stands_alone(needle, prediction)
    return _stands_alone(needle, normalised(_EDGE_QUOTES.sub("", prediction)))


def _stands_alone(needle: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(needle)}(?!\w)", text) is not None


def f1(prediction: str, gold: str) -> float:
    """Harmonic mean of precision and recall over the words both share, counted with multiplicity (as SQuAD's)."""
    said, wanted = _words(prediction), _words(gold)
    if not said or not wanted:
        return float(said == wanted)
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted))


_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _words(text: str) -> list[str]:
    # The articles go before the split: "a-b" has become "ab" by then, and an article ends at any non-word character.
    bare = text.lower().translate(_WITHOUT_PUNCTUATION)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def ceiling(golds: Iterable[str]) -> float:
    """Share (0-1) of the golds that CEM finds in themselves: the best CEM that any model can reach on them."""
    found = [cem(gold, gold) for gold in golds]
    return sum(found) / len(found) if found else 0.0
