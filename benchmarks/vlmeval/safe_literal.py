"""Reading a number out of text without ever running the text.

Answers of a model are untrusted. VLMEvalKit hands some of them to Python's evaluator; these functions stand in its
place.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping

LONGEST = 200
"""Characters of an expression that are looked at; a longer one is no number."""

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


def literal(text: object) -> object:
    """A Python literal (list, dict, number, string) written as text; stands in for ``eval`` inside VLMEvalKit.

    Raises:
        SyntaxError: The text is no literal. (VLMEvalKit catches this one.)
    """
    if not isinstance(text, str):
        raise SyntaxError(f"{type(text).__name__} is no text")
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, TypeError, MemoryError, RecursionError) as error:
        raise SyntaxError(f"no literal: {text[:60]!r}") from error


def number(text: str, names: Mapping[str, float] | None = None) -> float | None:
    r"""The value of a plain or LaTeX arithmetic expression ("3/4", "\frac{1}{2}", "2\sqrt{3}"), or None.

    Args:
        text: What a model or a data set says.
        names: Values of names that may occur in it.
    """
    if len(text) > LONGEST:
        return None
    try:
        value = _value(ast.parse(_python(text), mode="eval").body, names or {})
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        return None
    return value if math.isfinite(value) else None


def _python(text: str) -> str:
    """LaTeX arithmetic rewritten with Python's signs, innermost braces first."""
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    before = ""
    while before != text:
        before = text
        text = _FRACTION.sub(r"((\1)/(\2))", text)
        text = _ROOT.sub(lambda found: f"(({found[2]})**(1/({found[1] or 2})))", text)
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


def equal(answer: object, gold: object) -> bool:
    """Whether two answers are the same text or the same number within 1e-6 (MathVision's rule, without its faults)."""
    return _equal(answer, gold, gold_has_name=False)


def equal_as_published(answer: object, gold: object) -> bool:
    """MathVision's rule as published, fault included: "A" equals every number.

    Its code holds the gold's value in a variable called ``a`` and evaluates the lower-cased answer beside it. Here the
    name ``a`` stands for that value and nothing is executed. Other accidents of Python's evaluator (``2^3`` as 1) are
    left out.
    """
    return _equal(answer, gold, gold_has_name=True)


def _equal(answer: object, gold: object, *, gold_has_name: bool) -> bool:
    said, wanted = str(answer).lower().strip(), str(gold).lower().strip()
    if said == wanted:
        return True
    target = number(wanted)
    if target is None:
        return False
    value = number(said, {"a": target} if gold_has_name else None)
    return value is not None and abs(value - target) < 1e-6
