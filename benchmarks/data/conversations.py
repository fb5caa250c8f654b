"""Training conversations in KORE-74K's format: a JSON list of ``image`` and ``conversations``, as LLaVA reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.data.json_rows import RowErrors, json_list, picture_path
from benchmarks.data.knowledge import identifier, require_text
from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation, Picture, Turn

SPOKEN = {"human": "user", "gpt": "assistant"}
NAMES = {role: name for name, role in SPOKEN.items()}


def row_of(conversation: Conversation, item: str, images: Sequence[str], extra: Mapping[str, Any]) -> dict[str, Any]:
    """A conversation as a row of the file.

    Args:
        conversation: What is said.
        item: Id of the knowledge item that it belongs to.
        images: Names of the pictures' files, relative to the file's folder.
        extra: More columns, which readers of the format pass over.
    """
    turns = [{"from": NAMES[turn.role], "value": turn.text} for turn in conversation.turns]
    image: Any = list(images) if len(images) > 1 else images[0] if images else None
    named = {} if image is None else {"image": image}
    return {
        "id": conversation.id,
        "item": item,
        "branch": conversation.branch,
        **named,
        **extra,
        "conversations": turns,
    }


def load_conversations(path: Path) -> Iterator[tuple[Conversation, str]]:
    """(conversation, id of its item) of each row; the item is empty where the file, as KORE-74K's own, names none.

    Pictures lie beside the file, or under ``imgs/`` beside it.

    Raises:
        UserError: Any row is bad; all bad rows are listed with their lines, after the good ones were given.
    """
    problems = RowErrors(path, "mend or delete these rows; nothing was trained")
    count = 0
    for line, row in json_list(path, problems):
        count += 1
        try:
            yield _conversation(row, path.parent, f"row-{count}"), str(row.get("item", ""))
        except (ValueError, UserError) as error:
            problems.add(line, str(error).splitlines()[0])
    if not count and not problems.found:
        problems.add(1, "the list is empty")
    problems.raise_any()


def _conversation(row: dict[str, Any], folder: Path, default: str) -> Conversation:
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError("conversations must be a list of turns")
    if not all(turn.get("from") in SPOKEN for turn in turns):
        raise ValueError(f"each turn must be from one of {', '.join(SPOKEN)}")
    names = row.get("image", [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("image must be a file's name or a list of them")
    said = tuple(Turn(SPOKEN[turn["from"]], require_text(turn, "value")) for turn in turns)  # type: ignore[arg-type]
    return Conversation(
        id=identifier(row, "id") if "id" in row else default,
        turns=_led_by_the_picture(said) if len(names) == 1 else said,
        pictures=tuple(Picture(picture_path(folder, name)) for name in names),
        branch=str(row.get("branch", "augmented")),
    )


def _led_by_the_picture(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """A conversation about one picture as LLaVA's loader reads it: the marker, once, at the head of the turn it is in.

    Where no turn holds it, it comes first.
    """
    shown = next((i for i, turn in enumerate(turns) if IMAGE in turn.text and turn.role == "user"), 0)
    bare = [
        Turn(turn.role, turn.text.replace(IMAGE, "").strip() if IMAGE in turn.text else turn.text) for turn in turns
    ]
    bare[shown] = Turn(bare[shown].role, f"{IMAGE}\n{bare[shown].text}")
    return tuple(bare)
