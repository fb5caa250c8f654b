"""The folder that ``augment`` writes: knowledge and conversations as JSON, pictures by content, a `datasets` folder."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from benchmarks.data.conversations import row_of
from benchmarks.data.knowledge import injection_row
from benchmarks.records import Conversation, KnowledgeItem, Picture
from benchmarks.registry import INJECTION_FILE
from harness.storage.store import atomic_replace, atomic_write, translate_os_errors
from methods.augmentation.datasets import TRAINING_FILE
from methods.augmentation.pictures import EditedPicture

IMAGES, DATASET = "imgs", "dataset"
OWN_PICTURE = re.compile(IMAGES + r"/[0-9a-f]{2}/\.?[0-9a-f]{64}\..+")
"""Names of the pictures that are written, also of one that a kill left half written."""
ROWS_AT_ONCE = 256
"""Rows of the `datasets` folder that are held in memory."""
_KINDS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp",
          b"II*\0": ".tif", b"MM\0*": ".tif"}  # fmt: skip
Row = dict[str, Any]


@dataclass(frozen=True)
class ConversationRow:
    """One conversation on its way out: its row, and the bytes of its pictures by the names in the row."""

    row: Row
    pictures: Mapping[str, bytes]


def save(conversation: Conversation, item: str, out: Path, extra: Mapping[str, Any]) -> ConversationRow:
    """Write a conversation's pictures under names made from their content. Safe to call from several threads."""
    pictures = {}
    for picture in conversation.pictures:
        content, suffix = encoded(picture)
        pictures[_stored(out, content, suffix)] = content
    return ConversationRow(row_of(conversation, item, list(pictures), extra), pictures)


def save_item(item: KnowledgeItem, out: Path) -> Row:
    """Write an item's own picture; its row in the file of knowledge."""
    return injection_row(item, _stored(out, *encoded(item.picture)))


def encoded(picture: Picture) -> tuple[bytes, str]:
    """A picture's bytes and suffix: as they are, or, where it was edited, in the format of its original."""
    content = Picture(picture.source).encoded
    suffix = next((suffix for magic, suffix in _KINDS.items() if content.startswith(magic)), ".img")
    if not isinstance(picture, EditedPicture):
        return content, suffix
    if suffix != ".jpg":
        return picture.encoded, ".png"
    buffer = io.BytesIO()
    picture.pixels().save(buffer, "JPEG", quality=92)
    return buffer.getvalue(), suffix


def _stored(out: Path, content: bytes, suffix: str) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    name = f"{IMAGES}/{sha256[:2]}/{sha256}{suffix}"
    path = out / name
    if not (path.is_file() and path.read_bytes() == content):
        atomic_write(path, content, flush=False)
    return name


class Output:
    """Rows that are written as they come; the files are in place once the block of ``opened`` has ended well."""

    def __init__(self, knowledge: TextIO, training: TextIO, table: Any, schema: Any) -> None:
        self._files = {"knowledge": knowledge, "training": training}
        self._begun = {"knowledge": False, "training": False}
        self._table, self._schema = table, schema
        self._waiting: list[Row] = []

    def item(self, row: Row) -> None:
        """One row of the file of knowledge."""
        self._put("knowledge", row)

    def conversation(self, written: ConversationRow) -> None:
        """One row of the training data and of the `datasets` folder."""
        self._put("training", written.row)
        images = [{"bytes": content, "path": name} for name, content in written.pictures.items()]
        turns = [{"from": turn["from"], "value": turn["value"]} for turn in written.row["conversations"]]
        told = {name: str(written.row[name]) for name in ("id", "item", "branch")}
        self._waiting.append({**told, "images": images, "conversations": turns})
        if len(self._waiting) >= ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Hand the waiting rows to the `datasets` folder."""
        import pyarrow as pa

        if self._waiting:
            self._table.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting = []

    def end(self) -> None:
        """Close both lists."""
        self.flush()
        for name, file in self._files.items():
            file.write("\n]\n" if self._begun[name] else "[]\n")

    def _put(self, name: str, row: Row) -> None:
        self._files[name].write(("[\n" if not self._begun[name] else ",\n") + json.dumps(row, ensure_ascii=False))
        self._begun[name] = True


@contextmanager
def opened(out: Path) -> Iterator[Output]:
    """Everything that is written in one go. A kill leaves the files of the run before."""
    import pyarrow.parquet as pq

    schema = _schema()
    with ExitStack() as stack:
        with translate_os_errors(out):
            out.mkdir(parents=True, exist_ok=True)
        names = (INJECTION_FILE, TRAINING_FILE, f"{DATASET}/data/train.parquet")
        places = [stack.enter_context(atomic_replace(out / name)) for name in names]
        files = [stack.enter_context(place.open("w", encoding="utf-8")) for place in places[:2]]
        table = stack.enter_context(pq.ParquetWriter(places[2], schema, compression="zstd"))
        output = Output(files[0], files[1], table, schema)
        yield output
        output.end()


def _schema() -> Any:
    """Columns of the `datasets` folder, told in the way that `datasets` reads: pictures come out decoded."""
    from datasets import Features, Image, List, Value

    turn = {"from": Value("string"), "value": Value("string")}
    columns = {"id": Value("string"), "item": Value("string"), "branch": Value("string")}
    return Features({**columns, "images": List(Image()), "conversations": List(turn)}).arrow_schema


def write_card(out: Path, lines: Sequence[str]) -> None:
    """The README of the `datasets` folder."""
    head = ["---", "configs:", "- config_name: default", "  data_files: data/*.parquet", "---", ""]
    atomic_write(out / DATASET / "README.md", "\n".join([*head, *lines]) + "\n")
