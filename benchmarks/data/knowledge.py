"""Read EVOKE's injection file: a JSON list in LLaVA's format with one conversation per knowledge item.

Rows of picture, name and text, and of ``messages``, are read as well, from files of any format.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.data.columns import as_json, optional_text, require_columns, require_id, require_text
from benchmarks.data.json_rows import Row, RowErrors, parse_rows
from benchmarks.data.messages import parse_dialogue, refuse_unsupported
from benchmarks.data.picture_values import from_json, open_picture, picture_name, picture_values
from benchmarks.data.rows import folder_of, read_rows
from benchmarks.errors import shown
from benchmarks.records import IMAGE, KnowledgeItem, Picture

COLUMNS = ("id", "image", "conversations")
OPTIONAL_COLUMNS = ("name", "type", "cnn_wiki_type", "facts", "group")
"""Columns that published EVOKE does not have; your own file may."""
GROUPS = {"news": "news", "wiki": "entity", "entity": "entity"}
PROMPTS = {
    "entity": "Can you describe the {type} in the image?",
    "news": "Can you describe the {type} news that the image is about?",
}
"""The question about an item that comes without one, by its group."""
ITEMS_FILE = "items.jsonl"
"""A user's knowledge: one JSON object per line with image, name, text and, optionally, id, type, group and facts."""
KNOWLEDGE_FILES = (ITEMS_FILE, "items.csv", "items.tsv")
"""Names of files of knowledge in a folder, besides EVOKE's."""

_TYPE_IN_PROMPT = re.compile(
    r"describe the (.+?)(?: (?:depicted|shown|presented|displayed|featured))? in th(?:e|is) image", re.I
)
_ENDINGS = re.compile(r"(_wiki|_\d+|_company|_news)+$")


def load_knowledge(path: Path) -> list[KnowledgeItem]:
    """Read new knowledge.

    Each row has ``id``, ``image`` (relative to the file's folder, or to ``imgs/`` in it) and ``conversations`` with
    one question that contains one ``<image>``, and its answer. Optional: ``name``, ``type``, ``cnn_wiki_type`` (news or
    wiki) and ``facts`` (a list of [field, value]). By default, name and type come from the file name and the question;
    such a name is shown and never trained on. Instead of a conversation, a row may have ``messages``, or name and text.

    Args:
        path: A file in any of the formats of ``benchmarks.data.rows``, or a folder of Parquet or Arrow files.

    Raises:
        UserError: A row is bad; lists file, line and problem of all bad rows (the first 20).
    """
    hint = "fix or delete these rows; nothing was trained"
    folder = folder_of(path)
    return list(parse_rows(path, knowledge_rows, lambda row: parse_item(row, folder), hint, key=attrgetter("id")))


def knowledge_rows(path: Path, errors: RowErrors) -> Iterator[tuple[int, Row]]:
    """``read_rows``, in which rows that need no id have one: the line, or the number of the row in a folder."""
    for number, (line, row) in enumerate(read_rows(path, errors), start=1):
        needs_none = "conversations" not in row and ("text" in row or "messages" in row)
        yield line, {"id": number if path.is_dir() else line, **row} if needs_none else row


def parse_item(row: dict[str, Any], folder: Path) -> KnowledgeItem:
    """Parse one row: in EVOKE's layout, with ``messages``, or flat.

    Raises:
        ValueError: The row is bad.
    """
    refuse_unsupported(row)
    if "messages" in row:
        row = _row_of_messages(row, folder)
    elif "conversations" not in row and "text" in row:
        row = evoke_row(row)
    values = picture_values(row)
    require_columns({**row, "image": values[0]} if values else row, COLUMNS, OPTIONAL_COLUMNS)
    if not values:
        require_text(row, "image")
    if len(values) != 1:
        raise ValueError(f"an item has one picture, not {len(values)}")
    return _item(row, picture_name(values[0]), open_picture(folder, values[0]))


def _item(row: dict[str, Any], image: str, picture: Picture) -> KnowledgeItem:
    prompt, text = _parse_conversation(row["conversations"])
    group = (optional_text(row, "cnn_wiki_type") or optional_text(row, "group") or _group_of(image)).lower()
    if group not in GROUPS:
        raise ValueError(f"cnn_wiki_type must be 'news' or 'wiki', not {shown(group)}")
    type_match = _TYPE_IN_PROMPT.search(prompt)
    name, item_id = optional_text(row, "name"), require_id(row, "id")
    return KnowledgeItem(
        id=item_id,
        name=name or name_of(image) or item_id,
        group="news" if GROUPS[group] == "news" else "entity",
        type=optional_text(row, "type") or (type_match[1] if type_match else "unknown"),
        text=text,
        picture=picture,
        prompt=prompt,
        facts=_parse_facts(from_json(row.get("facts") or [])),
        named=bool(name),
    )


def evoke_row(row: Row) -> Row:
    """A row of picture, name and text in EVOKE's layout.

    Raises:
        ValueError: Picture, name or text is missing or empty.
    """
    group = (optional_text(row, "group") or optional_text(row, "cnn_wiki_type") or "entity").lower()
    kind = optional_text(row, "type") or ("thing" if GROUPS.get(group) == "entity" else "current")
    prompt = optional_text(row, "prompt") or PROMPTS["news" if group == "news" else "entity"].format(type=kind)
    text = require_text(row, "text")
    values = picture_values(row)
    return {
        "id": row["id"],
        "name": " ".join(require_text(row, "name").split()),
        "type": kind,
        "cnn_wiki_type": group,
        "image": values[0] if len(values) == 1 else values or require_text(row, "image"),
        "conversations": [{"from": "human", "value": f"{IMAGE}\n{prompt}"}, {"from": "gpt", "value": text}],
        "facts": row.get("facts", []),
    }


def _row_of_messages(row: Row, folder: Path) -> Row:
    """A row with messages of one round, in EVOKE's layout."""
    turns, pictures = parse_dialogue(row, folder)
    if [turn.role for turn in turns] != ["user", "assistant"]:
        raise ValueError("messages must be one question and one answer")
    said = [{"from": speaker, "value": turn.text} for speaker, turn in zip(("human", "gpt"), turns, strict=True)]
    others = {name: value for name, value in row.items() if name not in ("messages", "images")}
    return {"cnn_wiki_type": "entity", **others, "image": list(pictures), "conversations": said}


def injection_row(item: KnowledgeItem, image: str) -> dict[str, Any]:
    """Format an item as a row of the file; ``image`` is relative to the file's folder."""
    turns = [{"from": "human", "value": f"{IMAGE}\n{item.prompt}"}, {"from": "gpt", "value": item.text}]
    return {
        "id": item.id,
        "image": image,
        "conversations": turns,
        **({"name": item.name} if item.named else {}),
        "type": item.type,
        "cnn_wiki_type": "news" if item.group == "news" else "wiki",
        "facts": [list(pair) for pair in item.facts],
    }


def _parse_conversation(said: object) -> tuple[str, str]:
    """The question without its marker, and the knowledge text."""
    turns = from_json(said)
    if not isinstance(turns, list) or len(turns) != 2 or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError("conversations must be a list of one question and one answer")
    if [turn.get("from") for turn in turns] != ["human", "gpt"]:
        raise ValueError("conversations must go from 'human' to 'gpt'")
    question, answer = (require_text(turn, "value") for turn in turns)
    if question.count(IMAGE) != 1 or IMAGE in answer:
        raise ValueError(f"the question must contain the marker {IMAGE} once and the answer must not contain it")
    prompt = question.replace(IMAGE, "").strip()
    if not prompt:
        raise ValueError("the question is empty")
    return prompt, answer.strip()


def _parse_facts(raw: object) -> tuple[tuple[str, str], ...]:
    pairs = list(raw.items()) if isinstance(raw, dict) else raw
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise ValueError("facts must be a list of [field, value] pairs")
    return tuple((_fact_text(name), _fact_text(value)) for name, value in pairs)


def _fact_text(value: object) -> str:
    """A part of a fact as it is taught; ``null`` and truth values are no text."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not isinstance(value, str) and not number:
        raise ValueError(f"a fact is made of text or numbers, not {as_json(value)}; leave the pair out or write it out")
    return str(value)


def name_of(image: str) -> str:
    """Published EVOKE names its files after the item: ``wikidata_imgs/1900 Storm Memorial_wiki.jpg``."""
    return _ENDINGS.sub("", PurePosixPath(image).stem) or PurePosixPath(image).stem


def _group_of(image: str) -> str:
    if not PurePosixPath(image).parts:
        return "entity"
    return "wiki" if "wiki" in PurePosixPath(image).parts[0].lower() else "news"
