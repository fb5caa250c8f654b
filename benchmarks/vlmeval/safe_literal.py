"""Parse literals and arithmetic from text without executing it.

A model's answers are untrusted. VLMEvalKit passes some of them to Python's evaluator; these functions replace it.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from fractions import Fraction

MAX_LENGTH = 200
"""Maximum characters of an expression; a longer one is not read as a number."""

_LATEX = (
    (re.compile(r"\\(?:left|right|,|;|!| )|[$]|\^\s*\{?\s*\\circ\s*\}?|\\circ|°"), ""),
    (re.compile(r"\\(?:times|cdot)"), "*"),
    (re.compile(r"\\div"), "/"),
    (re.compile(r"\\pi|π"), f"({math.pi!r})"),
)
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_ROOT = re.compile(r"\\sqrt\s*(?:\[([^\[\]{}]*)\])?\s*\{([^{}]*)\}")
_EXPONENT = re.compile(r"\^\s*\{([^{}]*)\}")
_PRODUCT = re.compile(r"(?<=[\d)])\s*(?=\()")  # 2\sqrt{3} is a product

MAX_BITS = 10_000
"""Maximum size of the numerator and the denominator of an exact value."""

Number = Fraction | float


def _power(base: Number, exponent: Number) -> Number:
    if not isinstance(base, Fraction) or not isinstance(exponent, Fraction) or exponent.denominator != 1:
        return math.pow(base, exponent)
    if max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent) > MAX_BITS:
        raise OverflowError("the power is too large")
    return base**exponent.numerator


_BINARY: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: _power,
}


def parse_literal(text: object) -> object:
    """Parse a Python literal (list, dict, number, string); replaces ``eval`` inside VLMEvalKit.

    Raises:
        SyntaxError: The text is not a literal. (VLMEvalKit catches this type.)
    """
    if not isinstance(text, str):
        raise SyntaxError(f"{type(text).__name__} is not text")
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, TypeError, MemoryError, RecursionError) as error:
        raise SyntaxError(f"not a literal: {text[:60]!r}") from error


def parse_number(text: str) -> float | None:
    r"""Evaluate a plain or LaTeX arithmetic expression ("3/4", "\frac{1}{2}", "2\sqrt{3}"); None if it is not one.

    Integers and their fractions are exact, so that (3^1008 - 1) / 3^1009 has a value.
    """
    if len(text) > MAX_LENGTH:
        return None
    try:
        value = float(_value(ast.parse(_from_latex(text), mode="eval").body))
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        return None
    return value if math.isfinite(value) else None


def _from_latex(text: str) -> str:
    """Rewrite LaTeX arithmetic with Python operators, innermost braces first."""
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    previous = ""
    while previous != text:
        previous = text
        text = _EXPONENT.sub(r"^(\1)", text)
        text = _FRACTION.sub(r"((\1)/(\2))", text)
        text = _ROOT.sub(lambda match: f"(({match[2]})**(1/({match[1] or 2})))", text)
    text = text.replace("^", "**").replace("{", "(").replace("}", ")")
    return _PRODUCT.sub("*", text).strip()


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            return Fraction(value)
        case ast.Constant(value=float() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner)
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _value(inner)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            return _BINARY[type(sign)](_value(left), _value(right))
    raise ValueError("not arithmetic")
