"""The columns of a row: what must be there, and of which type. A value of another type is an error, never its text."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

from benchmarks.errors import shown

MAX_ID = 300
"""Most characters of an id."""
SHOWN_COLUMNS = 12
"""How many unknown columns an error lists."""


def require_columns(row: dict[str, Any], required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    """Check that a row has all required columns; the error names unknown columns as likely misspellings.

    Raises:
        ValueError: A column is missing.
    """
    missing = [name for name in required if name not in row]
    if missing:
        unknown = sorted(set(row) - set(required) - set(optional))
        hint = f"; the row has {', '.join(map(shown, unknown[:SHOWN_COLUMNS]))}" if unknown else ""
        raise ValueError(f"the column {missing[0]!r} is missing{hint}")


def require_id(row: Mapping[str, Any], name: str) -> str:
    """A row's id, a number or a word, as text.

    Raises:
        ValueError: The id is empty or of another type.
    """
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{name} must be a number or a word, not {shown(value)}")
    try:
        text = str(value).strip()
    except ValueError as error:  # Python refuses to write thousands of digits
        raise ValueError(f"{name} is a number with too many digits") from error
    if not text:
        raise ValueError(f"{name} must be a number or a word, not {shown(value)}")
    if len(text) > MAX_ID or any(unicodedata.category(letter) == "Cc" for letter in text):
        raise ValueError(f"{name} must be one line of at most {MAX_ID} characters, not {shown(text)}")
    return text


def optional_id(row: Mapping[str, Any], name: str) -> str:
    """Like ``require_id``, but empty if the column is missing, empty or null.

    Raises:
        ValueError: The id is of another type.
    """
    return require_id(row, name) if row.get(name) not in (None, "") else ""


def optional_text(row: Mapping[str, Any], name: str) -> str:
    """A column of text that a row may leave out; empty if it is missing, empty or null.

    Raises:
        ValueError: The column holds something else: its text would be one that nobody wrote.
    """
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {as_json(value)}")
    return value or ""


def as_json(value: object) -> str:
    """A value as an error shows it, with the words of JSON for what is no text."""
    return json.dumps(value) if value is None or isinstance(value, bool) else shown(value)


def require_text(row: Mapping[str, Any], name: str) -> str:
    """A column that must contain text.

    Raises:
        ValueError: The column is missing, empty or not text.
    """
    value = row.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {shown(value)}")
    if not value.strip():
        raise ValueError(f"{name} is empty")
    return value
