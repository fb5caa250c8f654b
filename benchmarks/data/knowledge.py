"""EVOKE's injection file: a JSON list in LLaVA's format, one conversation for each piece of new knowledge."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.data.json_rows import json_list, picture_path, read_all
from benchmarks.records import IMAGE, KnowledgeItem, Picture

COLUMNS = ("id", "image", "conversations")
EXTRA = ("name", "type", "cnn_wiki_type", "facts", "group")
"""Columns that published EVOKE lacks; a file of one's own may give them."""
GROUPS = {"news": "news", "wiki": "entity", "entity": "entity"}

_ASKED = re.compile(
    r"describe the (.+?)(?: (?:depicted|shown|presented|displayed|featured))? in th(?:e|is) image", re.I
)
_ENDINGS = re.compile(r"(_wiki|_\d+|_company|_news)+$")


def load_knowledge(path: Path) -> list[KnowledgeItem]:
    """Read new knowledge.

    Each element has ``id``, ``image`` (relative to the file's folder, or to ``imgs/`` in it) and ``conversations`` of
    one question with one ``<image>`` and its answer. Optional: ``name``, ``type``, ``cnn_wiki_type`` (news or wiki) and
    ``facts`` (a list of [field, value]). Where they lack, name and type come from the file name and the question.

    Raises:
        UserError: Any row is bad; it lists file, line and fault of all bad rows (the first 20).
    """
    return read_all(
        path, json_list, lambda row: knowledge_item(row, path.parent), "mend or delete these rows; nothing was trained"
    )


def knowledge_item(row: dict[str, Any], folder: Path) -> KnowledgeItem:
    """The item of one row.

    Raises:
        ValueError: The row is bad.
    """
    check_columns(row, COLUMNS, EXTRA)
    image = require_text(row, "image")
    prompt, text = _conversation(row["conversations"])
    group = str(row.get("cnn_wiki_type") or row.get("group") or _group_of(image)).lower()
    if group not in GROUPS:
        raise ValueError(f"cnn_wiki_type must be 'news' or 'wiki', not {group!r}")
    asked = _ASKED.search(prompt)
    return KnowledgeItem(
        id=identifier(row, "id"),
        name=str(row.get("name") or _name_of(image)),
        group="news" if GROUPS[group] == "news" else "entity",
        type=str(row.get("type") or (asked[1] if asked else "unknown")),
        text=text,
        picture=Picture(picture_path(folder, image)),
        prompt=prompt,
        facts=_facts(row.get("facts", [])),
    )


def injection_row(item: KnowledgeItem, image: str) -> dict[str, Any]:
    """An item as a row of the file; ``image`` is relative to the file's folder."""
    turns = [{"from": "human", "value": f"{IMAGE}\n{item.prompt}"}, {"from": "gpt", "value": item.text}]
    return {
        "id": item.id,
        "image": image,
        "conversations": turns,
        "name": item.name,
        "type": item.type,
        "cnn_wiki_type": "news" if item.group == "news" else "wiki",
        "facts": [list(pair) for pair in item.facts],
    }


def _conversation(turns: object) -> tuple[str, str]:
    """The question without its marker, and the knowledge text."""
    if not isinstance(turns, list) or len(turns) != 2 or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError("conversations must be a list of one question and one answer")
    if [turn.get("from") for turn in turns] != ["human", "gpt"]:
        raise ValueError("conversations must go from 'human' to 'gpt'")
    question, answer = (require_text(turn, "value") for turn in turns)
    if question.count(IMAGE) != 1 or IMAGE in answer:
        raise ValueError(f"the question must hold the marker {IMAGE} once and the answer must not hold it")
    prompt = question.replace(IMAGE, "").strip()
    if not prompt:
        raise ValueError("the question is empty")
    return prompt, answer.strip()


def _facts(raw: object) -> tuple[tuple[str, str], ...]:
    pairs = list(raw.items()) if isinstance(raw, dict) else raw
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise ValueError("facts must be a list of [field, value] pairs")
    return tuple((str(name), str(value)) for name, value in pairs)


def check_columns(row: dict[str, Any], wanted: tuple[str, ...], optional: tuple[str, ...]) -> None:
    """A row has all it must have; a missing column's likely misspelling is named.

    Raises:
        ValueError: A column is missing.
    """
    missing = [name for name in wanted if name not in row]
    if missing:
        strange = sorted(set(row) - set(wanted) - set(optional))
        hint = f"; the row has {', '.join(map(repr, strange))}" if strange else ""
        raise ValueError(f"the column {missing[0]!r} is missing{hint}")


def identifier(row: dict[str, Any], name: str) -> str:
    """A row's id, a number or a word, as text.

    Raises:
        ValueError: It is empty or something else.
    """
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
        raise ValueError(f"{name} must be a number or a word, not {value!r}")
    return str(value).strip()


def require_text(row: dict[str, Any], name: str) -> str:
    """A column that must hold text.

    Raises:
        ValueError: It is missing, empty or no text.
    """
    value = row.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {value!r}")
    if not value.strip():
        raise ValueError(f"{name} is empty")
    return value


def _name_of(image: str) -> str:
    """Published EVOKE names its files after the item: ``wikidata_imgs/1900 Storm Memorial_wiki.jpg``."""
    return _ENDINGS.sub("", PurePosixPath(image).stem) or PurePosixPath(image).stem


def _group_of(image: str) -> str:
    return "wiki" if "wiki" in PurePosixPath(image).parts[0].lower() else "news"
