"""Read EVOKE's injection file: a JSON list in LLaVA's format with one conversation per knowledge item."""

from __future__ import annotations

import re
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.data.json_rows import json_list, parse_rows
from benchmarks.data.pictures import find_picture
from benchmarks.records import IMAGE, KnowledgeItem, Picture

COLUMNS = ("id", "image", "conversations")
OPTIONAL_COLUMNS = ("name", "type", "cnn_wiki_type", "facts", "group")
"""Columns that published EVOKE does not have; your own file may."""
GROUPS = {"news": "news", "wiki": "entity", "entity": "entity"}

_TYPE_IN_PROMPT = re.compile(
    r"describe the (.+?)(?: (?:depicted|shown|presented|displayed|featured))? in th(?:e|is) image", re.I
)
_ENDINGS = re.compile(r"(_wiki|_\d+|_company|_news)+$")


def load_knowledge(path: Path) -> list[KnowledgeItem]:
    """Read new knowledge.

    Each element has ``id``, ``image`` (relative to the file's folder, or to ``imgs/`` in it) and ``conversations`` with
    one question that contains one ``<image>``, and its answer. Optional: ``name``, ``type``, ``cnn_wiki_type`` (news or
    wiki) and ``facts`` (a list of [field, value]). By default, name and type come from the file name and the question;
    such a name is shown and never trained on.

    Raises:
        UserError: A row is bad; lists file, line and problem of all bad rows (the first 20).
    """
    hint = "fix or delete these rows; nothing was trained"
    return list(parse_rows(path, json_list, lambda row: parse_item(row, path.parent), hint, key=attrgetter("id")))


def parse_item(row: dict[str, Any], folder: Path) -> KnowledgeItem:
    """Parse one row.

    Raises:
        ValueError: The row is bad.
    """
    require_columns(row, COLUMNS, OPTIONAL_COLUMNS)
    image = require_text(row, "image")
    prompt, text = _parse_conversation(row["conversations"])
    group = str(row.get("cnn_wiki_type") or row.get("group") or _group_of(image)).lower()
    if group not in GROUPS:
        raise ValueError(f"cnn_wiki_type must be 'news' or 'wiki', not {group!r}")
    type_match = _TYPE_IN_PROMPT.search(prompt)
    return KnowledgeItem(
        id=require_id(row, "id"),
        name=str(row.get("name") or name_of(image)),
        group="news" if GROUPS[group] == "news" else "entity",
        type=str(row.get("type") or (type_match[1] if type_match else "unknown")),
        text=text,
        picture=Picture(find_picture(folder, image)),
        prompt=prompt,
        facts=_parse_facts(row.get("facts", [])),
        named=bool(row.get("name")),
    )


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


def _parse_conversation(turns: object) -> tuple[str, str]:
    """The question without its marker, and the knowledge text."""
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
    return tuple((str(name), str(value)) for name, value in pairs)


def require_columns(row: dict[str, Any], required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    """Check that a row has all required columns; the error names unknown columns as likely misspellings.

    Raises:
        ValueError: A column is missing.
    """
    missing = [name for name in required if name not in row]
    if missing:
        unknown = sorted(set(row) - set(required) - set(optional))
        hint = f"; the row has {', '.join(map(repr, unknown))}" if unknown else ""
        raise ValueError(f"the column {missing[0]!r} is missing{hint}")


def require_id(row: dict[str, Any], name: str) -> str:
    """A row's id, a number or a word, as text.

    Raises:
        ValueError: The id is empty or of another type.
    """
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
        raise ValueError(f"{name} must be a number or a word, not {value!r}")
    return str(value).strip()


def require_text(row: dict[str, Any], name: str) -> str:
    """A column that must contain text.

    Raises:
        ValueError: The column is missing, empty or not text.
    """
    value = row.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {value!r}")
    if not value.strip():
        raise ValueError(f"{name} is empty")
    return value


def name_of(image: str) -> str:
    """Published EVOKE names its files after the item: ``wikidata_imgs/1900 Storm Memorial_wiki.jpg``."""
    return _ENDINGS.sub("", PurePosixPath(image).stem) or PurePosixPath(image).stem


def _group_of(image: str) -> str:
    return "wiki" if "wiki" in PurePosixPath(image).parts[0].lower() else "news"
