"""Reading knowledge one item after another: a bad one is reported and the rest goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.data.json_rows import RowErrors, json_lines, json_list
from benchmarks.data.knowledge import GROUPS, knowledge_item, require_text
from benchmarks.errors import UserError
from benchmarks.records import IMAGE, KnowledgeItem
from benchmarks.registry import INJECTION_FILE
from methods.augmentation.generators.chat import TEXT_LIMIT, cut
from methods.augmentation.generators.schemas import CONTROL, MARKUP
from methods.augmentation.pictures import upright

OWN_FILE = "items.jsonl"
"""One's own knowledge: one JSON object a line with image, name, text, and if need be id, type, group and facts."""
LONGEST_NAME = 300
PROMPTS = {
    "entity": "Can you describe the {type} in the image?",
    "news": "Can you describe the {type} news that the image is about?",
}


@dataclasses.dataclass(frozen=True)
class ItemIssue:
    """Something about one item that the user should know.

    Args:
        item: Its id, or the line of a row that has none.
        branch: What is missing because of it: a branch, or "all".
        reason: In one sentence.
    """

    item: str
    branch: str
    reason: str


def knowledge_file(place: Path) -> Path:
    """The file of knowledge in a folder, in EVOKE's layout or one's own.

    Raises:
        UserError: There is none.
    """
    for path in (place, place / INJECTION_FILE, place / OWN_FILE):
        if path.is_file():
            return path
    raise UserError(
        "no knowledge is there",
        location=str(place),
        hint=f"give a folder with {OWN_FILE} (image, name and text in each line) or {INJECTION_FILE}",
    )


def read_items(file: Path, decode: bool = True) -> Iterator[KnowledgeItem | ItemIssue]:
    """Every row of the file in order: an item, or what is wrong with it. Of equal items the first counts.

    Args:
        file: As ``knowledge_file`` gives it.
        decode: Whether to look into the pictures, not only at their headers.
    """
    problems = RowErrors(file, "")
    rows = json_list(file, problems) if file.suffix == ".json" else json_lines(file, problems)
    own, seen, told = file.suffix != ".json", dict[str, str](), 0
    for line, row in rows:
        yield from (ItemIssue(_place(problem), "all", _said(problem)) for problem in problems.found[told:])
        told = len(problems.found)
        name = str(row.get("id", "")).strip() or f"line {line}"
        try:
            item = _checked(knowledge_item(_full(row, line) if own else row, file.parent))
            marks = (f"id {item.id}", _content(item))
            for mark in marks:
                if mark in seen:
                    raise ValueError(f"the same as item {seen[mark]}")
            if decode:
                item.picture.pixels()
                item = dataclasses.replace(item, picture=upright(item.picture))
        except (ValueError, UserError) as error:
            yield ItemIssue(name, "all", str(error).splitlines()[0])
            continue
        seen |= dict.fromkeys(marks, item.id)
        if len(item.text) > TEXT_LIMIT:
            yield ItemIssue(
                item.id, "text", f"{len(item.text):,} characters; cut to the sentences of the first {TEXT_LIMIT:,}"
            )
            item = dataclasses.replace(item, text=cut(item.text))
        yield item
    yield from (ItemIssue(_place(problem), "all", _said(problem)) for problem in problems.found[told:])


def _place(problem: str) -> str:
    """A problem reads "FILE:LINE: what"."""
    found = re.search(r":(\d+): ", problem)
    return f"line {found[1]}" if found else ""


def _said(problem: str) -> str:
    return re.sub(r"^.*?:\d+: ", "", problem)


def _full(row: dict[str, Any], line: int) -> dict[str, Any]:
    """A row of one's own file in EVOKE's columns.

    Raises:
        ValueError: Name or text is missing or empty.
    """
    group = str(row.get("group") or "entity").lower()
    kind = str(row.get("type") or ("thing" if GROUPS.get(group) == "entity" else "current"))
    prompt = str(row.get("prompt") or PROMPTS["news" if group == "news" else "entity"].format(type=kind))
    said = [{"from": "human", "value": f"{IMAGE}\n{prompt}"}, {"from": "gpt", "value": require_text(row, "text")}]
    known = {
        "name": " ".join(require_text(row, "name").split()),
        "type": kind,
        "cnn_wiki_type": group,
        "conversations": said,
    }
    return {"id": row.get("id", line), "facts": row.get("facts", []), "image": require_text(row, "image"), **known}


def _checked(item: KnowledgeItem) -> KnowledgeItem:
    """The item, if nothing in it could be taken for something else.

    Raises:
        ValueError: It cannot be used.
    """
    for field, text in (("name", item.name), ("type", item.type), ("text", item.text), ("prompt", item.prompt)):
        if IMAGE in text or CONTROL.search(text.replace("\n", " ").replace("\t", " ").replace("\r", " ")):
            raise ValueError(f"{field} holds {IMAGE} or a control token")
        if field != "text" and (MARKUP.search(text) or len(text) > LONGEST_NAME):
            raise ValueError(f"{field} holds markup or is longer than {LONGEST_NAME} characters; give it as plain text")
    if any(IMAGE in part or CONTROL.search(part) for fact in item.facts for part in fact):
        raise ValueError(f"a fact holds {IMAGE} or a control token")
    return item


def _content(item: KnowledgeItem) -> str:
    said = f"{item.name.casefold()}\0{item.text}\0{item.picture.sha256}"
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()
