"""Text and numbers as a reader sees them. What a model, a data set or a plug-in wrote passes through here."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports.statistics.estimates import Estimate

LONGEST_LABEL = 120
MISSING = "–"
MINUS = "−"

SYMBOLS = {"rule-judge": "†", "limited": "‡", "transductive": "§", "unjudged": "¶", "leaked": "‖"}
OTHER_SYMBOL = "#"

_HARMFUL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"  # controls, line separators, halves of surrogate pairs
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # signs that turn the direction of writing
)


def sanitize(text: str, limit: int = LONGEST_LABEL, *, lines: bool = False) -> str:
    """Untrusted text made harmless for any medium: control and direction signs shown as boxes, long text cut.

    Args:
        text: What somebody else wrote.
        limit: Longest result, in characters.
        lines: Keep line breaks.
    """
    shown = _HARMFUL.sub(_with_breaks if lines else _without_breaks, text[:limit])
    return f"{shown.rstrip()}… ({len(text):,} characters)" if len(text) > limit else shown


def _without_breaks(found: re.Match[str]) -> str:
    return " " if found[0] in "\n\r\t\u2028\u2029" else "\N{REPLACEMENT CHARACTER}"


def _with_breaks(found: re.Match[str]) -> str:
    return found[0] if found[0] == "\n" else _without_breaks(found)


def format_number(value: float, digits: int = 2) -> str:
    """A number with fixed decimals, a dash where there is none, and never a negative zero."""
    if not math.isfinite(value):
        return MISSING
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def format_signed(value: float, digits: int = 2) -> str:
    """A difference with its sign."""
    text = format_number(value, digits)
    if text == MISSING or float(text) == 0:
        return text
    return MINUS + text[1:] if text.startswith("-") else "+" + text


def p_text(p: float) -> str:
    """A p value as papers print it."""
    if not math.isfinite(p):
        return MISSING
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def symbols(marks: tuple[str, ...]) -> str:
    """The footnote signs of some marks."""
    return "".join(dict.fromkeys(SYMBOLS.get(mark, OTHER_SYMBOL) for mark in marks))


def join_words(names: list[str]) -> str:
    """Names as a sentence has them: "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def over_seeds(estimate: Estimate) -> str:
    """The standard deviation over training seeds, to stand behind an interval that holds them fixed."""
    spread = format_number(estimate.spread)
    return "" if spread == MISSING else f" ± {spread}"
