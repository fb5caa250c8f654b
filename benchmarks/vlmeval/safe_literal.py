"""Parse literals and numbers from text without executing it.

A model's answers are untrusted. VLMEvalKit passes some of them to Python's evaluator; these functions replace it.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping

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
_PRODUCT = re.compile(r"(?<=[\d)])\s*(?=\()")  # 2\sqrt{3} is a product

_BINARY: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
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


def parse_number(text: str, names: Mapping[str, float] | None = None) -> float | None:
    r"""Evaluate a plain or LaTeX arithmetic expression ("3/4", "\frac{1}{2}", "2\sqrt{3}"); None if it is not one.

    Args:
        text: A model's or a data set's answer.
        names: Values of names that may occur in the text.
    """
    if len(text) > MAX_LENGTH:
        return None
    try:
        value = _value(ast.parse(_from_latex(text), mode="eval").body, names or {})
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
        text = _FRACTION.sub(r"((\1)/(\2))", text)
        text = _ROOT.sub(lambda match: f"(({match[2]})**(1/({match[1] or 2})))", text)
    text = text.replace("^", "**").replace("{", "(").replace("}", ")")
    return _PRODUCT.sub("*", text).strip()


def _value(node: ast.expr, names: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return float(value)
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner, names)
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _value(inner, names)
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            return _BINARY[type(sign)](_value(left, names), _value(right, names))
    raise ValueError("not arithmetic")


def answers_equal(answer: object, gold: object) -> bool:
    """Whether two answers are the same text or the same number within 1e-6 (MathVision's rule without its bug)."""
    return _equal(answer, gold, gold_has_name=False)


def answers_equal_as_published(answer: object, gold: object) -> bool:
    """MathVision's rule as published, including its bug that "A" equals every number.

    The published code stores the gold's value in a variable called ``a`` and evaluates the lower-cased answer in the
    same scope. Here the name ``a`` has that value and nothing is executed. Other side effects of Python's evaluator
    (``2^3`` as 1) are not reproduced.
    """
    return _equal(answer, gold, gold_has_name=True)


def _equal(answer: object, gold: object, *, gold_has_name: bool) -> bool:
    answer_text, gold_text = str(answer).lower().strip(), str(gold).lower().strip()
    if answer_text == gold_text:
        return True
    target = parse_number(gold_text)
    if target is None:
        return False
    value = parse_number(answer_text, {"a": target} if gold_has_name else None)
    return value is not None and abs(value - target) < 1e-6
