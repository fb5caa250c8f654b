"""Training conversations in KORE-74K's format, a JSON list of ``image`` and ``conversations``, as read by LLaVA.

The layouts and file formats of other trainers are read as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

from benchmarks.data.columns import optional_id, optional_text, require_id, require_text
from benchmarks.data.json_rows import RowErrors, parse_rows
from benchmarks.data.messages import (
    NO_SYSTEM,
    SYSTEM,
    has_dialogue,
    move_marker_first,
    parse_dialogue,
    refuse_unsupported,
)
from benchmarks.data.picture_values import from_json, is_picture_value, open_picture
from benchmarks.data.rows import folder_of, read_rows
from benchmarks.errors import UserError, first_line
from benchmarks.records import Conversation, Picture, Role, Turn

ROLES: dict[str, Role] = {"human": "user", "gpt": "assistant"}
UNKNOWN_BRANCH = "augmented"
"""The branch of rows that do not say theirs."""
NUMBERED = "row-"
"""Begins the id of rows that have none; what follows is the row's number."""
NOT_LLAVA = frozenset({"messages", "images"})
"""Columns that LLaVA's files do not have."""
_SPEAKERS = {role: speaker for speaker, role in ROLES.items()}


def conversation_row(
    conversation: Conversation, item: str, images: Sequence[str], extra: Mapping[str, Any]
) -> dict[str, Any]:
    """Format a conversation as a row of the file.

    Args:
        conversation: The conversation.
        item: Id of its knowledge item.
        images: The pictures' file names, relative to the file's folder.
        extra: More columns, which readers of the format ignore.
    """
    turns = [{"from": _SPEAKERS[turn.role], "value": turn.text} for turn in conversation.turns]
    image: dict[str, Any] = {"image": images[0] if len(images) == 1 else list(images)} if images else {}
    return {
        "id": conversation.id,
        "item": item,
        "branch": conversation.branch,
        **image,
        **extra,
        "conversations": turns,
    }


def load_conversations(path: Path) -> Iterator[tuple[Conversation, str]]:
    """Yield (conversation, id of its knowledge item) for each row; the id is empty in files without it (KORE-74K).

    Pictures are beside the file, or under ``imgs/`` beside it.

    Args:
        path: A file in any of the formats of ``benchmarks.data.rows``, or a folder of Parquet or Arrow files. The
            layouts of its rows are those of LLaVA and of ``benchmarks.data.messages``.

    Raises:
        UserError: A row is bad; lists all bad rows with their lines, after the good ones were yielded.
    """
    numbers = count(1)
    folder = folder_of(path)

    def parse(row: dict[str, Any]) -> tuple[Conversation, str]:
        default_id = f"{NUMBERED}{next(numbers)}"
        try:
            return _parse_conversation(row, folder, default_id), optional_id(row, "item")
        except UserError as error:
            raise ValueError(first_line(error)) from error

    return parse_rows(path, read_rows, parse, "fix or delete these rows; nothing was trained")


def is_llava(path: Path) -> bool:
    """Whether a file is a JSON list that begins with a row in LLaVA's layout, as KORE-74K and LLaVA's own data are."""
    if path.suffix != ".json" or not path.is_file():
        return False
    return any(_is_llava_row(row) for _, row in islice(read_rows(path, RowErrors(path, "")), 1))


def _is_llava_row(row: Mapping[str, Any]) -> bool:
    if NOT_LLAVA & row.keys() or ("conversations" not in row and has_dialogue(row)):
        return False
    turns = row.get("conversations")
    return not (isinstance(turns, list) and any(isinstance(turn, dict) and "role" in turn for turn in turns))


def _parse_conversation(row: dict[str, Any], folder: Path, default_id: str) -> Conversation:
    turns, pictures = (_parse_llava if _is_llava_row(row) else parse_dialogue)(row, folder)
    return Conversation(
        id=require_id(row, "id") if "id" in row else default_id,
        turns=turns,
        pictures=pictures,
        branch=optional_text(row, "branch") or UNKNOWN_BRANCH,
    )


def _parse_llava(row: Mapping[str, Any], folder: Path) -> tuple[tuple[Turn, ...], tuple[Picture, ...]]:
    turns = from_json(row.get("conversations"))
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError("conversations must be a list of turns")
    refuse_unsupported(row)
    if row.get(SYSTEM) or any(turn.get("from") == SYSTEM for turn in turns):
        raise ValueError(f"a system turn: {NO_SYSTEM}")
    if not all(isinstance(turn.get("from"), str) and turn["from"] in ROLES for turn in turns):
        raise ValueError(f"each turn must be from one of {', '.join(ROLES)}")
    names = from_json([] if row.get("image") is None else row["image"])
    names = names if isinstance(names, list) else [names]
    if not all(map(is_picture_value, names)):
        raise ValueError("image must be a file's name or a list of them")
    parsed = tuple(Turn(ROLES[turn["from"]], require_text(turn, "value")) for turn in turns)
    return (
        move_marker_first(parsed) if len(names) == 1 else parsed,
        tuple(open_picture(folder, name) for name in names),
    )
