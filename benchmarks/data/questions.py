"""Rows of questions about new knowledge in EVOKE's columns, whatever columns they come with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.data.columns import optional_text, require_text
from benchmarks.data.json_rows import Row, RowErrors
from benchmarks.data.messages import parse_dialogue, refuse_unsupported
from benchmarks.data.picture_values import picture_values
from benchmarks.data.rows import TEST, read_rows
from benchmarks.records import IMAGE

WITHOUT_ID = frozenset({"question", "messages", "src"})
"""Columns of layouts whose rows need no id."""


def question_rows(path: Path, errors: RowErrors) -> Iterator[tuple[int, Row]]:
    """``read_rows`` of the split ``test``; a row with a column of ``WITHOUT_ID`` and no id has its number as one.

    The numbers are those of items without ids: the line, or in a folder, and in VLKEB's layout, the number of the row.
    """
    for number, (line, row) in enumerate(read_rows(path, errors, TEST), start=1):
        needs_none = not WITHOUT_ID.isdisjoint(row) and {"id", "question_id"}.isdisjoint(row)
        own = number if path.is_dir() or "src" in row else line  # VLKEB's list may be a single line
        yield line, {"id": own, **row} if needs_none else row


def question_row(row: Row, folder: Path) -> Row:
    """A row with ``messages``, or with ``question`` instead of ``text``, in EVOKE's columns; any other as it is.

    MMEdit and VLKEB call question and answer ``src`` and ``alt``; they mean the same here. Such rows may leave out
    ``type`` and ``group``, and have ``id`` for ``question_id``.

    Args:
        row: The row.
        folder: The folder of its pictures.

    Raises:
        ValueError: The messages are bad, or more than one question.
    """
    if "messages" in row:
        row = _row_of_messages(row, folder)
    refuse_unsupported(row)
    if "src" in row and "alt" in row and "question" not in row:
        row = {**row, "question": row["src"], "answer": row["alt"]}
    if "question" in row and "text" not in row:
        group = optional_text(row, "group") or optional_text(row, "cnn_wiki_type") or "entity"
        asked = {"text": row["question"], "type": optional_text(row, "type") or "unknown", "cnn_wiki_type": group}
        row = {**({"question_id": row["id"]} if "id" in row else {}), **row, **asked}
    values = picture_values(row)
    return {**row, "image": values[0]} if len(values) == 1 else row


def require_picture(row: Row) -> Any:
    """The one picture of a row, as ``open_picture`` takes it.

    Raises:
        ValueError: There is none, or there are several.
    """
    values = picture_values(row)
    if len(values) > 1:
        raise ValueError(f"a question has one picture, not {len(values)}")
    return values[0] if values else require_text(row, "image")


def _row_of_messages(row: Row, folder: Path) -> Row:
    turns, pictures = parse_dialogue(row, folder)
    if [turn.role for turn in turns] != ["user", "assistant"]:
        raise ValueError("messages must be one question and its answer")
    others = {name: value for name, value in row.items() if name not in ("messages", "images")}
    text = turns[0].text.replace(IMAGE, "", len(pictures)).strip()
    return {**others, "question": text, "answer": turns[1].text, "image": list(pictures)}
