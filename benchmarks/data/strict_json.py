"""Decode JSON so that nothing in it can be lost or can fail later: no repeated key, no half character, no NaN."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.errors import shown

_HALF = re.compile(r"\\u[dD][89abAB]|\\u[dD][c-fC-F]")
"""An escaped half of a character, which may have its other half beside it."""


class RefusedValueError(ValueError):
    """Valid JSON that has no one meaning, or none that can be written to a file again."""


class RowDecoder:
    """Decodes one value after the other from a text."""

    def __init__(self) -> None:
        self._problems: list[str] = []
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object, parse_constant=self._constant)

    def decode_at(self, text: str, at: int) -> tuple[Any, int, str]:
        """The value that begins at a position, the position after it, and why it is refused ("" if it is not).

        Raises:
            ValueError: The text is not JSON, or a number is too long.
            RecursionError: The value is nested too deeply.
        """
        self._problems.clear()
        value, end = self._decoder.raw_decode(text, at)
        if not self._problems and _HALF.search(text, at, end):
            self._problems.extend(_half_characters(value))
        return value, end, self._problems[0] if self._problems else ""

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
            self._problems.append(f"the key {shown(repeated)} is given twice; delete one")
        return value

    def _constant(self, name: str) -> None:
        self._problems.append(f"{name} is not a value of JSON; leave the key out")


def decode(text: str) -> Any:
    """Decode a text that is one JSON value.

    Raises:
        RefusedValueError: A key is given twice, a text holds half a character, or a number is NaN or infinite.
        ValueError: The text is not JSON.
        RecursionError: The value is nested too deeply.
    """
    start = len(text) - len(text.lstrip(" \t\r\n"))
    value, end, problem = RowDecoder().decode_at(text, start)
    if rest := text[end:].strip(" \t\r\n"):
        raise json.JSONDecodeError(f"there is more after the value: {shown(rest)}", text, end)
    if problem:
        raise RefusedValueError(problem)
    return value


def _half_characters(value: Any) -> Iterator[str]:
    """What to say of a value with a text that UTF-8 cannot write."""
    columns: Iterable[tuple[str, Any]] = value.items() if isinstance(value, dict) else [("", value)]
    for name, content in columns:
        try:
            json.dumps([name, content], ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = json.dumps(error.object[error.start])
            where = f"{shown(name)} holds" if name else "there is"
            yield f"{where} half a character ({half} without its other half); write the whole one or delete it"
