"""Text and numbers as a reader sees them. What a model, a data set or a plug-in wrote passes through here."""

from __future__ import annotations

import math
import unicodedata

LONGEST_LABEL = 120
MISSING = "–"
MINUS = "−"

SYMBOLS = {"rule-judge": "†", "limited": "‡", "transductive": "§", "unjudged": "¶"}
OTHER_SYMBOL = "#"

_CONTROLS_OF_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain(text: str, limit: int = LONGEST_LABEL, *, lines: bool = False) -> str:
    """Untrusted text made harmless for any medium: control and direction signs shown as boxes, long text cut.

    Args:
        text: What somebody else wrote.
        limit: Longest result, in characters.
        lines: Keep line breaks.
    """
    total = len(text)
    shown = []
    for sign in text[: limit + 1]:
        if sign in "\n\r\t\u2028\u2029":
            shown.append(sign if lines and sign == "\n" else " ")
        elif sign in _CONTROLS_OF_DIRECTION or unicodedata.category(sign) in ("Cc", "Cs"):
            shown.append("\N{REPLACEMENT CHARACTER}")
        else:
            shown.append(sign)
    if total > limit:
        return "".join(shown[:limit]).rstrip() + f"… ({total:,} characters)"
    return "".join(shown)


def fixed(value: float, digits: int = 2) -> str:
    """A number with fixed decimals, a dash where there is none, and never a negative zero."""
    if not math.isfinite(value):
        return MISSING
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign."""
    text = fixed(value, digits)
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


def listed(names: list[str]) -> str:
    """Names as a sentence has them: "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
