"""The error about a value that a setting cannot have: what was given, and all that the setting may be."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from benchmarks.errors import UserError, shown

_KINDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "null": "null"}
_BOUNDS = {
    "exclusiveMinimum": "greater than",
    "minimum": "of at least",
    "exclusiveMaximum": "less than",
    "maximum": "of at most",
}


def invalid_value(error: ValidationError, kind: Any, locate: Callable[[str], str]) -> UserError:
    """The first of pydantic's errors, with the bounds of the value that does not fit.

    Args:
        error: From validating ``kind``.
        kind: A model or a dataclass.
        locate: Turns the value's dotted key into the error's location.
    """
    first = error.errors(include_url=False)[0]
    given, message = first["input"], first["msg"]
    number = _as_number(given)
    if number is not None and not math.isfinite(number):
        message = "it is not a finite number"
    allowed = _allowed(TypeAdapter(kind).json_schema(), first["loc"])
    hint = f"give {allowed}" if allowed else "give another value"
    if first["type"] == "tuple_type":
        hint = f"write a list, such as [{given}]" if isinstance(given, str) and len(given) < 60 else "write a list"
    if allowed.startswith(_KINDS["integer"]) and isinstance(given, str) and number is not None and number.is_integer():
        hint = f"write {int(number)}"
    location = locate(".".join(str(part) for part in first["loc"]))
    return UserError(f"{shown(given)} does not fit: {message}", location=location, hint=hint)


def _as_number(given: object) -> float | None:
    """The number that a value is, or that a text spells."""
    if not isinstance(given, int | float | str) or isinstance(given, bool):
        return None
    try:
        return float(given)
    except (ValueError, OverflowError):
        return None


def _allowed(schema: Mapping[str, Any], path: Sequence[int | str]) -> str:
    """What the value at a path in a JSON schema may be, in words; empty if the schema does not say."""
    node: Mapping[str, Any] = schema
    for part in path:
        node = _resolved(schema, node)
        if isinstance(part, int):
            places = node.get("prefixItems", ())
            node = places[part] if part < len(places) else node.get("items", {})
        else:
            node = node.get("properties", {}).get(part, {})
    return " or ".join(filter(None, map(_words, node.get("anyOf", [_resolved(schema, node)]))))


def _resolved(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part of a schema, or the definition that it refers to."""
    resolved: Mapping[str, Any] = schema.get("$defs", {}).get(str(node.get("$ref", "")).rpartition("/")[2], node)
    return resolved


def _words(node: Mapping[str, Any]) -> str:
    if "enum" in node:
        return "one of " + ", ".join(map(str, node["enum"]))
    bounds = " and ".join(f"{words} {node[name]:g}" for name, words in _BOUNDS.items() if name in node)
    return f"{_KINDS.get(node.get('type', ''), '')} {bounds}".strip()
