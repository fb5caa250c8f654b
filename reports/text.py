"""Text and numbers as shown to a reader. Untrusted text from models, data sets and plug-ins is sanitised here."""

from __future__ import annotations

import math
import re

from reports.marks import symbol

LONGEST_LABEL = 120
MISSING = "–"
MINUS = "−"


_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"  # controls, line separators, halves of surrogate pairs
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # marks that change the writing direction
)


def sanitize(text: str, limit: int = LONGEST_LABEL, *, lines: bool = False) -> str:
    """Make untrusted text safe for any medium: replace control and direction characters, cut long text.

    Args:
        text: Any text.
        limit: Longest result, in characters.
        lines: Whether to keep line breaks.
    """
    shown = _UNSAFE.sub(_with_breaks if lines else _without_breaks, text[:limit])
    return f"{shown.rstrip()}… ({len(text):,} characters)" if len(text) > limit else shown


def _without_breaks(match: re.Match[str]) -> str:
    return " " if match[0] in "\n\r\t\u2028\u2029" else "\N{REPLACEMENT CHARACTER}"


def _with_breaks(match: re.Match[str]) -> str:
    return match[0] if match[0] == "\n" else _without_breaks(match)


def format_number(value: float, digits: int = 2) -> str:
    """Format a number with fixed decimals; a dash if it is not finite, and never a negative zero."""
    if not math.isfinite(value):
        return MISSING
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def rounded(value: float, digits: int = 2) -> float | None:
    """Round a number for JSON, without a negative zero; None if it is not finite."""
    return round(value, digits) + 0.0 if math.isfinite(value) else None


def format_signed(value: float, digits: int = 2) -> str:
    """Format a difference with its sign."""
    text = format_number(value, digits)
    if text == MISSING or float(text) == 0:
        return text
    return MINUS + text[1:] if text.startswith("-") else "+" + text


def format_p(p: float) -> str:
    """Format a p value with three decimals, or as "< 0.001"."""
    if not math.isfinite(p):
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def footnote_symbols(marks: tuple[str, ...]) -> str:
    """Return the footnote symbols of some marks."""
    return "".join(dict.fromkeys(symbol(mark) for mark in marks))


def join_words(names: list[str]) -> str:
    """Join names as in a sentence: "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def format_duration(seconds: float) -> str:
    """Format seconds in s, min or h."""
    if not math.isfinite(seconds) or seconds <= 0:
        return MISSING
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def format_seed_sd(seed_sd: float) -> str:
    """Format the standard deviation over training seeds, to follow an interval that keeps the seeds fixed."""
    return f" ± {format_number(seed_sd)}" if math.isfinite(seed_sd) else ""
