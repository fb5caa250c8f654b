"""Read knowledge item by item; a bad item is reported, and the others are still read."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.data.columns import optional_id
from benchmarks.data.json_rows import Row, RowErrors
from benchmarks.data.knowledge import ITEMS_FILE, KNOWLEDGE_FILES, evoke_row, knowledge_rows, parse_item
from benchmarks.data.rows import find_rows, folder_of, read_rows
from benchmarks.data.tables import table_files
from benchmarks.errors import UserError, first_line
from benchmarks.records import IMAGE, KnowledgeItem
from benchmarks.registry import INJECTION_FILE
from methods.augmentation.generators.chat import TEXT_LIMIT, truncate
from methods.augmentation.generators.schemas import CONTROL, MARKUP
from methods.augmentation.pictures import rotate_upright

MAX_NAME_LENGTH = 300


@dataclasses.dataclass(frozen=True)
class ItemIssue:
    """A problem with one item.

    Args:
        item: Its id, or the line of a row without an id.
        branch: The branch that is missing because of it, or "all".
        reason: In one sentence.
    """

    item: str
    branch: str
    reason: str

    @property
    def is_remark(self) -> bool:
        """Whether the item itself follows, because the problem is with a part of it."""
        return self.branch != "all"


def find_knowledge_file(path: Path) -> Path:
    """The file of knowledge in a folder, in EVOKE's format, as ``items.jsonl`` or in another format.

    Returns:
        The folder itself if it holds Parquet or Arrow files.

    Raises:
        UserError: There is none.
    """
    for file in (path, path / INJECTION_FILE, path / ITEMS_FILE, find_rows(path, KNOWLEDGE_FILES)):
        if file.is_file() or (file.is_dir() and table_files(file)):
            return file
    hint = f"give a folder with {ITEMS_FILE} (image, name and text in each line) or {INJECTION_FILE}"
    raise UserError("there is no file of knowledge", location=str(path), hint=hint)


def read_items(file: Path, decode: bool = True) -> Iterator[KnowledgeItem | ItemIssue]:
    """Read the rows of a file in order: each as an item or a problem. Of equal items only the first is read.

    A file that cannot be read to its end is refused: nobody could say what is missing.

    Args:
        file: From ``find_knowledge_file``.
        decode: Whether to decode the pictures, not only their headers.

    Raises:
        UserError: The file is missing, unreadable or broken.
    """
    errors = RowErrors(file, "repair the file; nothing was made of it")
    is_list = file.suffix == ".json"
    seen: dict[str, str] = {}
    rows = knowledge_rows if is_list else read_rows
    for number, (line, row) in enumerate(rows(file, errors), start=1):
        yield from _row_issues(errors)
        name = _name_of(row) or f"line {line}"
        try:
            if not is_list:
                row = _with_id(row, number if file.is_dir() else line)
            item = _checked(parse_item(row, folder_of(file)))
            keys = (f"id {item.id}", _content_digest(item))
            for key in keys:
                if key in seen:
                    raise ValueError(f"the same as item {seen[key]}")
            if decode:
                item.picture.pixels()
                item = dataclasses.replace(item, picture=rotate_upright(item.picture))
        except (ValueError, UserError) as error:
            yield ItemIssue(name, "all", first_line(error))
            continue
        seen |= dict.fromkeys(keys, item.id)
        if len(item.text) > TEXT_LIMIT:
            reason = f"{len(item.text):,} characters; cut to the sentences of the first {TEXT_LIMIT:,}"
            yield ItemIssue(item.id, "text", reason)
            item = dataclasses.replace(item, text=truncate(item.text))
        yield item
    yield from _row_issues(errors)


def _name_of(row: Row) -> str:
    """The id of a row that may be bad; empty if it has none that can be shown."""
    try:
        return optional_id(row, "id")
    except ValueError:
        return ""


def _row_issues(errors: RowErrors) -> Iterator[ItemIssue]:
    """Report and remove the bad rows collected so far.

    Raises:
        UserError: The file cannot be read on.
    """
    if errors.stopped:
        errors.raise_if_any()
    problems, errors.problems = errors.problems, []
    yield from (ItemIssue(f"line {line}", "all", problem) for _, line, problem in problems)


def _with_id(row: Row, number: int) -> Row:
    """The row, with a number as id if it needs none, and in EVOKE's layout if it has no conversation."""
    if "conversations" in row:
        return row
    return {"id": number} | row if "messages" in row else evoke_row({"id": number} | row)


def _checked(item: KnowledgeItem) -> KnowledgeItem:
    """The item, unless it contains something that a chat template or a page would interpret.

    Raises:
        ValueError: It does.
    """
    for field, text in (("name", item.name), ("type", item.type), ("text", item.text), ("prompt", item.prompt)):
        if IMAGE in text or CONTROL.search(text.replace("\n", " ").replace("\t", " ").replace("\r", " ")):
            raise ValueError(f"{field} contains {IMAGE} or a control token")
        if field != "text" and (MARKUP.search(text) or len(text) > MAX_NAME_LENGTH):
            limit = f"longer than {MAX_NAME_LENGTH} characters"
            raise ValueError(f"{field} contains markup or is {limit}; give it as plain text")
    if any(IMAGE in part or CONTROL.search(part) for fact in item.facts for part in fact):
        raise ValueError(f"a fact contains {IMAGE} or a control token")
    return item


def _content_digest(item: KnowledgeItem) -> str:
    content = f"{item.name.casefold()}\0{item.text}\0{item.picture.sha256}"
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
