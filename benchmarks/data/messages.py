"""Conversations in the layouts of TRL, LLaMA-Factory, ms-swift and LLaVA, as turns and pictures.

A row has ``messages``, ``conversations``, ``prompt`` and ``completion``, or one question and its answer. A turn
is text with ``<image>``, or a list of typed parts; a part for a picture means ``<image>`` and a line break.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.data.columns import require_text
from benchmarks.data.picture_values import from_json, open_picture, picture_values
from benchmarks.errors import shown
from benchmarks.records import IMAGE, Picture, Role, Turn

ROLES: Mapping[str, Role] = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant"}
SYSTEM = "system"
QUESTION_AND_ANSWER = (
    ("prompt", "completion"),
    ("instruction", "output"),
    ("query", "response"),
    ("question", "answer"),
)
"""Columns of one question and its answer: TRL, Alpaca, ms-swift, and a CSV file."""
UNSUPPORTED = ("videos", "video", "audios", "audio", "tools")
"""Columns that would change what a conversation means."""
NO_SYSTEM = (
    "training and questions use the model's own system text; delete it, or put it at the start of the first user turn"
)
_PART_VALUES = ("image", "image_url", "url", "path", "base64")
"""Keys of a typed part that may hold its picture: Qwen, OpenAI, transformers."""


def has_dialogue(row: Mapping[str, Any]) -> bool:
    """Whether a row has one of the layouts."""
    pairs = (all(name in row for name in pair) for pair in QUESTION_AND_ANSWER)
    return bool(row.get("messages") or row.get("conversations")) or any(pairs)


def parse_dialogue(row: Mapping[str, Any], folder: Path) -> tuple[tuple[Turn, ...], tuple[Picture, ...]]:
    """The turns and the pictures of a row, one marker for each.

    Pictures that no turn mentions are put at the start of the first user turn, as by TRL and ms-swift. A single
    picture's marker is moved to the start of its turn, as by LLaVA's loader, so that all layouts give the same turns.

    Args:
        row: The row.
        folder: The folder of its pictures.

    Raises:
        ValueError: The row is bad.
    """
    refuse_unsupported(row)
    turns = _without_system(row, _raw_turns(row))
    reader = _TurnReader(picture_values(row))
    parsed = tuple(reader.read(turn) for turn in turns)
    return reader.place(parsed), tuple(open_picture(folder, value) for value in reader.used)


def refuse_unsupported(row: Mapping[str, Any]) -> None:
    """Check that a row has nothing that would be left out of the conversation silently.

    Raises:
        ValueError: It has a video, a sound or tools.
    """
    if unsupported := [name for name in UNSUPPORTED if row.get(name)]:
        name = unsupported[0]
        verb = "are" if name.endswith("s") else "is"
        raise ValueError(f"{name} {verb} not supported; delete the column or the row")


def move_marker_first(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Like LLaVA's loader, keep one marker, at the start of its turn; without a marker, add it to the first turn."""
    marked = next((i for i, turn in enumerate(turns) if IMAGE in turn.text and turn.role == "user"), 0)
    bare = [
        Turn(turn.role, turn.text.replace(IMAGE, "").strip() if IMAGE in turn.text else turn.text) for turn in turns
    ]
    bare[marked] = Turn(bare[marked].role, f"{IMAGE}\n{bare[marked].text}")
    return tuple(bare)


def _raw_turns(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The turns as the row has them, with ``role`` or ``from``, and ``content`` or ``value``."""
    for column in ("messages", "conversations"):
        if row.get(column) not in (None, ""):
            return _list_of_turns(row[column], column)
    for asked, answered in QUESTION_AND_ANSWER:
        if asked in row and answered in row:
            question, answer = from_json(row[asked]), from_json(row[answered])
            if isinstance(question, list):
                return [*_list_of_turns(question, asked), *_list_of_turns(answer, answered)]
            text = f"{require_text(row, asked)}\n{require_text(row, 'input')}" if row.get("input") else row[asked]
            return [*_history(row), {"role": "user", "content": text}, {"role": "assistant", "content": row[answered]}]
    raise ValueError("there are no turns: the row has neither messages nor conversations")


def _list_of_turns(value: object, column: str) -> list[Mapping[str, Any]]:
    turns = from_json(value)
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, Mapping) for turn in turns):
        raise ValueError(f"{column} must be a list of turns")
    return turns


def _history(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    pairs = from_json(row.get("history") or [])
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise ValueError("history must be a list of [question, answer] pairs")
    roles = ("user", "assistant")
    return [{"role": role, "content": text} for pair in pairs for role, text in zip(roles, pair, strict=True)]


def _without_system(row: Mapping[str, Any], turns: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The turns without an empty system text.

    Raises:
        ValueError: There is a system text.
    """
    said = [turn for turn in turns if _role(turn) == SYSTEM]
    count = sum(bool(turn.get("content", turn.get("value"))) for turn in said) + bool(row.get(SYSTEM))
    if count:
        raise ValueError(f"{'a system turn' if count == 1 else f'{count} system turns'}: {NO_SYSTEM}")
    return [turn for turn in turns if _role(turn) != SYSTEM]


def _role(turn: Mapping[str, Any]) -> object:
    return turn.get("role", turn.get("from"))


class _TurnReader:
    """Reads the turns of one row in order, and takes its pictures in the order of their markers.

    Args:
        column: The row's own pictures, for markers and for parts without a picture.
    """

    def __init__(self, column: Sequence[Any]) -> None:
        self.used: list[Any] = []
        self._column, self._markers = deque(column), 0

    def read(self, turn: Mapping[str, Any]) -> Turn:
        """Parse a turn."""
        role = ROLES.get(str(_role(turn)))
        if role is None:
            raise ValueError(f"each turn must be from one of {', '.join(ROLES)}, not {shown(_role(turn))}")
        if turn.get("loss") in (False, 0):
            raise ValueError("a turn has loss false, but every answer is learned; split the row or delete the key")
        name = "content" if "content" in turn else "value"
        before = self._markers
        content = turn.get(name)
        text = self._parts(content) if isinstance(content, list) else self._text(content, name)
        if role == "assistant" and self._markers > before:
            raise ValueError(f"an assistant turn contains a picture or the marker {IMAGE}")
        if not text.strip():
            raise ValueError(f"{name} is empty")
        return Turn(role, text)

    def place(self, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
        """The turns with a marker for each picture, after all of them were read.

        Raises:
            ValueError: The markers are others than the pictures.
        """
        if not self._markers and turns and turns[0].role == "user":
            self.used, self._column, self._markers = list(self._column), deque(), len(self._column)
            turns = (Turn("user", f"{IMAGE}\n" * self._markers + turns[0].text), *turns[1:])
        pictures = len(self.used) + len(self._column)
        if self._markers != pictures:
            raise ValueError(f"{self._markers} {IMAGE} markers but {pictures} pictures")
        return move_marker_first(turns) if pictures == 1 else turns

    def _text(self, content: object, name: str) -> str:
        if not isinstance(content, str):
            raise ValueError(f"{name} must be text or a list of parts, not {shown(content)}")
        for _ in range(content.count(IMAGE)):
            self._take(None)
        return content

    def _parts(self, parts: Sequence[Any]) -> str:
        text = ""
        for part in parts:
            kind = part.get("type") if isinstance(part, Mapping) else None
            if kind == "text":
                said = self._text(part.get("text"), "text")
                text += said.removeprefix("\n") if text.endswith(f"{IMAGE}\n") else said
            elif kind in ("image", "image_url"):
                self._take(_own_picture(part))
                text += f"{IMAGE}\n"
            else:
                raise ValueError(f"a part must be of type text or image, not {shown(kind)}")
        return text.removesuffix("\n") if text.endswith(f"{IMAGE}\n") else text

    def _take(self, own: Any) -> None:
        self._markers += 1
        if own is not None:
            self.used.append(own)
        elif self._column:
            self.used.append(self._column.popleft())


def _own_picture(part: Mapping[str, Any]) -> Any:
    """The picture that a part itself holds; None if it means the next one of the row."""
    for key in _PART_VALUES:
        value = part.get(key)
        if isinstance(value, Mapping):
            value = value.get("url") or (value if value.get("bytes") or value.get("path") else None)
        if value:
            return f"data:image/unknown;base64,{value}" if key == "base64" else value
    return None
