"""Training conversations in KORE-74K's format: a JSON list of ``image`` and ``conversations``, as read by LLaVA."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.data.json_rows import json_list, parse_rows
from benchmarks.data.knowledge import require_id, require_text
from benchmarks.data.pictures import find_picture
from benchmarks.errors import UserError, first_line
from benchmarks.records import IMAGE, Conversation, Picture, Role, Turn

ROLES: dict[str, Role] = {"human": "user", "gpt": "assistant"}
UNKNOWN_BRANCH = "augmented"
"""The branch of rows that do not say theirs."""
NUMBERED = "row-"
"""Begins the id of rows that have none; what follows is the row's number."""
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

    Raises:
        UserError: A row is bad; lists all bad rows with their lines, after the good ones were yielded.
    """
    numbers = count(1)

    def parse(row: dict[str, Any]) -> tuple[Conversation, str]:
        default_id = f"{NUMBERED}{next(numbers)}"
        try:
            return _parse_conversation(row, path.parent, default_id), str(row.get("item", ""))
        except UserError as error:
            raise ValueError(first_line(error)) from error

    return parse_rows(path, json_list, parse, "fix or delete these rows; nothing was trained")


def _parse_conversation(row: dict[str, Any], folder: Path, default_id: str) -> Conversation:
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError("conversations must be a list of turns")
    if not all(turn.get("from") in ROLES for turn in turns):
        raise ValueError(f"each turn must be from one of {', '.join(ROLES)}")
    names = row.get("image", [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("image must be a file's name or a list of them")
    parsed = tuple(Turn(ROLES[turn["from"]], require_text(turn, "value")) for turn in turns)
    return Conversation(
        id=require_id(row, "id") if "id" in row else default_id,
        turns=_move_marker_first(parsed) if len(names) == 1 else parsed,
        pictures=tuple(Picture(find_picture(folder, name)) for name in names),
        branch=str(row.get("branch", UNKNOWN_BRANCH)),
    )


def _move_marker_first(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Like LLaVA's loader, keep one marker, at the start of its turn; without a marker, add it to the first turn."""
    marked = next((i for i, turn in enumerate(turns) if IMAGE in turn.text and turn.role == "user"), 0)
    bare = [
        Turn(turn.role, turn.text.replace(IMAGE, "").strip() if IMAGE in turn.text else turn.text) for turn in turns
    ]
    bare[marked] = Turn(bare[marked].role, f"{IMAGE}\n{bare[marked].text}")
    return tuple(bare)
