r"""Mathematical answers as people and models write them: ``\boxed{12}``, ``1,500``, ``1\frac{1}{2}``, "12 cm", "50 %".

The corrected numbers of MathVision and MathVista compare with this; the published rules stand beside them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from benchmarks.vlmeval.safe_literal import MAX_LENGTH, parse_number

TOLERANCE = 1e-6
PERCENT = "%"


class Value(NamedTuple):
    """A number with its unit: a name from ``UNITS`` with its power, ``%``, or "" for none."""

    number: float
    unit: str = ""

    @property
    def readings(self) -> tuple[float, ...]:
        """The numbers that it may stand for: 50 % is 50 where per cent are asked for, else 0.5."""
        return (self.number, self.number / 100) if self.unit == PERCENT else (self.number,)


_NAMES = """
mm millimeter millimetre; cm centimeter centimetre; dm decimeter decimetre; m meter metre; km kilometer kilometre;
inch inches in; foot feet ft; yard yd; mile mi; unit; degree deg; radian rad; mg milligram; g gram; kg kilogram;
ton tonne; pound lb; ounce oz; ml milliliter millilitre; l liter litre; second sec s; minute min; hour hr h; day; week;
month; year yr; dollar usd; cent; euro eur; mph; km/h kmh kph; m/s
"""
UNITS = {name: names.split()[0] for names in _NAMES.split(";") for name in names.split()}
"""Written name -> unit. Only these are taken off a number: "3 dozen" or "12 or 13" is not 3 or 12."""

_SIGNS = str.maketrans({"−": "-", "–": "-", "∶": ":", "×": "*", "·": "*", "⋅": "*", "÷": "/", "\x0c": r"\f"})
_WRAPPERS = (
    re.compile(r"\$+(.*?)\$+"),
    re.compile(r"\\\((.*)\\\)"),
    re.compile(r"\\\[(.*)\\\]"),
    re.compile(r"\*\*(.*)\*\*"),
    re.compile(r"\\(?:boxed|fbox|text|textbf|mathrm|mathbf|mbox)\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"),
    re.compile(r"\(([a-z])\)"),
    re.compile(r"[^=≈\d]*(?:=|≈|\\approx)\s*(.*)"),  # x = 12
    re.compile(r"(.*\S)\s*\.\s*"),
)
# Quantifiers after which no backtracking can help are possessive, so that a long run of spaces takes linear time.
_DEGREES = re.compile(r"(?:\^|(?<!\s))\s*+\{?+\s*+(?:\\circ|\\degree|°)\s*+\}?+$")
_PERCENT = re.compile(r"(.*[^\s\\])\s*+(?:\\?%|percent|per cent)")
_UNIT = re.compile(
    r"(?P<number>.*[\d)}π])\s*+(?:\\(?:text|textrm|mathrm|mbox|rm)\s*+)?\{?\s*+"
    r"(?P<size>square|sq|cubic|cu)?\.?\s*+(?P<name>[a-z][a-z/]*)\.?\s*+\}?\s*+(?P<power>\^?\s*+\{?[23]\}?|[²³])?"
)
_POWERS = {"square": "2", "sq": "2", "cubic": "3", "cu": "3", "²": "2", "³": "3", "2": "2", "3": "3"}

_NOT_DECIMAL = re.compile(r"\b0[xbo]|_")  # what only Python reads as a number
_RATIO = re.compile(r"([^:]+):([^:]+)")
_SIDES = re.compile(r"\d+(?:\.\d+)?(?:\s*x\s*\d+(?:\.\d+)?)+")
_FRACTION = r"\\frac\s*\{(\d+)\}\s*\{(\d+)\}"
_REWRITES = (
    (re.compile(r"\\\$|[$€£]"), ""),
    (re.compile(r"\\(?:dfrac|tfrac|cfrac)"), r"\\frac"),
    (re.compile(r"(?<![\d.])(\d{1,3}(?:(?:,|\{,\})\d{3})+)(?![\d,])"), lambda match: re.sub(r"\D", "", match[1])),
    (re.compile(r"(?<![\d.])0+(?=\d)"), ""),
    (re.compile(r"\\frac\s*(\d)"), r"\\frac{\1}"),
    (re.compile(r"(\\frac\s*\{[^{}]*\})\s*(\d)"), r"\1{\2}"),
    (re.compile(r"(?:\\sqrt|√)\s*(\d+)"), r"\\sqrt{\1}"),
    (re.compile(rf"(?<![\d.)}}\^])(\d+)\s*{_FRACTION}"), r"(\1+(\2)/(\3))"),
    (re.compile(r"(?<![\d./*^])(\d+)\s+(\d+)/(\d+)"), r"(\1+(\2)/(\3))"),
    (re.compile(r"(\^\s*(?:\{[^{}]*\}|\d))\s+(?=\d)|(\^\s*\{[^{}]*\})(?=\d)"), lambda match: f"{match[0].strip()}*"),
)


def answers_equal(answer: object, gold: object) -> bool:
    """Whether two answers are the same text or the same value within 1e-6.

    Units are compared only if both answers have one.
    """
    one, other = _plain(str(answer)), _plain(str(gold))
    if str(answer).lower().strip() == str(gold).lower().strip() or (one and _squeezed(one) == _squeezed(other)):
        return True
    read, expected = read_value(one), read_value(other)
    if read is None or expected is None or (read.unit and expected.unit and read.unit != expected.unit):
        return False
    if read.unit == expected.unit:
        return abs(read.number - expected.number) < TOLERANCE
    return any(abs(a - b) < TOLERANCE for a in read.readings for b in expected.readings)


def read_value(text: str) -> Value | None:
    """The number that a whole text states, with its unit; None if it states none."""
    text = _plain(text)
    if not text or len(text) > MAX_LENGTH or _NOT_DECIMAL.search(text):
        return None
    if match := _PERCENT.fullmatch(text):
        return _value(match[1], PERCENT)
    if (match := _UNIT.fullmatch(text)) and (unit := _unit(match)):
        return _value(match["number"], unit)
    return _value(text, "")


def _unit(match: re.Match[str]) -> str:
    name = UNITS.get(match["name"]) or UNITS.get(match["name"].removesuffix("s"))
    power = _POWERS.get(match["size"] or (match["power"] or "").strip("^{} "), "")
    return f"{name}{power}" if name else ""


def _value(text: str, unit: str) -> Value | None:
    if _SIDES.fullmatch(text):
        text = text.replace("x", "*")
    if match := _RATIO.fullmatch(text):
        text = f"({match[1]})/({match[2]})"
    if text.startswith(("(", "[")) and "," in text:
        return None  # a point or a list, not a number with thousands
    for pattern, plain in _REWRITES:
        text = pattern.sub(plain, text)
    number = parse_number(text)
    return None if number is None else Value(number, unit)


def _plain(text: str) -> str:
    """The text in lower case, without what surrounds an answer (delimiters, a box, "x =", a final full stop)."""
    text = re.sub(r"\\pi(?![a-z])|\bpi\b", "π", text.translate(_SIGNS).lower()).strip()
    text = _DEGREES.sub(" degrees", text)
    previous = ""
    while text != previous and len(text) <= 2 * MAX_LENGTH:
        previous = text
        for pattern in _WRAPPERS:
            if match := pattern.fullmatch(text):
                text = match[1].strip()
    return text


def _squeezed(text: str) -> str:
    """The text without the spaces that separate no words."""
    return re.sub(r"\s+(?!\w)|(?<!\w)\s+", "", text)
