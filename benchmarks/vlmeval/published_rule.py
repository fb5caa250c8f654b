"""MathVision's published comparison of two answers, without executing any text.

VLMEvalKit (0.0.20, ``dataset/utils/mathv.py``, ``is_equal``) accepts an answer that is the same text as the gold, the
same number to Python's evaluator, or the same number to latex2sympy2_extended. It stores the gold's value in a variable
called ``a`` in the scope in which it evaluates the lower-cased answer, so "A" equals every number. All of that is
reproduced here with an evaluator of arithmetic in place of Python's. Runs in ``vlmeval.worker`` because a third-party
parser reads a model's text.
"""

from __future__ import annotations

import ast
import operator
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from types import FrameType
from typing import Any

MAX_LATEX_LENGTH = 500
"""Maximum characters of a text that latex2sympy2_extended parses. A judge's reply of 128 tokens is about this long."""
SECONDS_PER_TEXT = 3
"""Time limit for parsing a text or comparing two, which then count as different; VLMEvalKit gives 30 s for both."""
MAX_BITS = 1_000_000
"""Maximum size of an integer; VLMEvalKit computes larger ones until its time limit."""


def answers_equal_as_published(answer: object, gold: object) -> bool:
    """Whether VLMEvalKit counts an answer as equal to the gold, including its fault that "A" equals every number.

    Unlike VLMEvalKit, this executes nothing: of Python it knows numbers, containers, operators, comparisons and
    ``abs``, ``max``, ``min`` and ``round``. Longer texts than ``MAX_LATEX_LENGTH`` are not parsed as LaTeX.
    """
    answer_text, gold_text = str(answer).lower().strip(), str(gold).lower().strip()
    return answer_text == gold_text or _equal_numbers(answer_text, gold_text)


@lru_cache(maxsize=4096)
def _equal_numbers(answer: str, gold: str) -> bool:
    return _equal_to_python(answer, gold) or _equal_to_latex(answer, gold)


def _equal_to_python(answer: str, gold: str) -> bool:
    try:
        with time_limit(SECONDS_PER_TEXT):
            target = evaluate(gold, {})
            return bool(abs(target - evaluate(answer, {"a": target})) < 1e-6)
    except Exception:  # the published rule, too, catches whatever evaluating any text may raise
        return False


def _equal_to_latex(answer: str, gold: str) -> bool:
    names = {"a": _from_latex(gold), "b": _from_latex(answer)}
    if names["a"] is None or names["b"] is None:
        return False
    try:
        with time_limit(SECONDS_PER_TEXT):
            if abs(evaluate(str(names["a"]), names) - evaluate(str(names["b"]), names)) < 1e-6:
                return True
            return bool(abs(names["a"] - names["b"]) < 1e-6)
    except Exception:  # as above
        return False


@lru_cache(maxsize=4096)
def _from_latex(text: str) -> Any:
    """The expression that latex2sympy2_extended reads, or None."""
    if len(text) > MAX_LATEX_LENGTH:
        return None
    from latex2sympy2_extended import latex2sympy  # imports half of sympy: only if numbers are compared

    try:
        with time_limit(SECONDS_PER_TEXT):
            return latex2sympy(text)
    except Exception:  # as above
        return None


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise ``TimeoutError`` in the block after this time, where the system and the thread can be interrupted."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    previous = signal.signal(signal.SIGALRM, stop)
    # The signal is repeated because a parser may catch the first exception.
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def evaluate(text: str, names: Mapping[str, Any]) -> Any:
    """Evaluate Python arithmetic with Python's own meaning (``2^3`` is 1, ``12 or 13`` is 12, ``0x10`` is 16).

    Args:
        text: The expression.
        names: Values of names that may occur in it: numbers or sympy's expressions.

    Raises:
        Exception: Whatever the operators raise; SyntaxError for anything but arithmetic.
    """
    return _value(ast.parse(text.strip(), mode="eval").body, names)


def _power(base: Any, exponent: Any) -> Any:
    if _is_exact(base) and _is_exact(exponent):
        bits = max(abs(int(base.numerator)), int(base.denominator)).bit_length()
        if bits * abs(int(exponent)) > MAX_BITS:
            raise OverflowError("the power is too large")
    return base**exponent


def _is_exact(number: Any) -> bool:
    """Whether this is an integer or fraction of Python or sympy, whose powers may fill the memory."""
    return isinstance(number, int) or bool(getattr(number, "is_Rational", False))


def _shift_left(number: Any, bits: Any) -> Any:
    if bits > MAX_BITS:
        raise OverflowError("the shift is too large")
    return number << bits


_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: _power,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.LShift: _shift_left, ast.RShift: operator.rshift,
    ast.BitXor: operator.xor, ast.BitAnd: operator.and_, ast.BitOr: operator.or_,
}  # fmt: skip
_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert, ast.Not: operator.not_,
}  # fmt: skip
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: lambda item, container: item in container, ast.NotIn: lambda item, container: item not in container,
}  # fmt: skip
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {"abs": abs, "max": max, "min": min, "round": round}


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.UnaryOp(op=sign, operand=inner):
            return _UNARY[type(sign)](_value(inner, names))
        case ast.BinOp(left=left, op=sign, right=right):
            operands = _value(left, names), _value(right, names)
            if any(isinstance(operand, str | bytes | list | tuple | set) for operand in operands):
                raise TypeError("not numbers")  # [0] * 10**9 would fill the memory
            return _BINARY[type(sign)](*operands)
        case ast.BoolOp(op=sign, values=values):
            return _chosen(values, names, stop_at=isinstance(sign, ast.Or))
        case ast.IfExp(test=test, body=body, orelse=other):
            return _value(body if _value(test, names) else other, names)
        case ast.Compare(left=left, ops=signs, comparators=others):
            return _compared(_value(left, names), signs, others, names)
        case ast.Tuple(elts=elements):
            return tuple(_value(element, names) for element in elements)
        case ast.List(elts=elements):
            return [_value(element, names) for element in elements]
        case ast.Set(elts=elements):
            return {_value(element, names) for element in elements}
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_value(argument, names) for argument in arguments))
    raise SyntaxError("not arithmetic")


def _chosen(values: list[ast.expr], names: Mapping[str, Any], *, stop_at: bool) -> Any:
    """The operand that ``or`` (``stop_at`` True) or ``and`` returns."""
    for operand in values[:-1]:
        value = _value(operand, names)
        if bool(value) is stop_at:
            return value
    return _value(values[-1], names)


def _compared(left: Any, signs: list[ast.cmpop], others: list[ast.expr], names: Mapping[str, Any]) -> Any:
    result: Any = True
    for sign, other in zip(signs, others, strict=True):
        right = _value(other, names)
        result = _COMPARE[type(sign)](left, right)
        if not result:
            return result
        left = right
    return result
