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

from benchmarks.data.conversations import conversation_row
from benchmarks.data.knowledge import injection_row
from benchmarks.records import Conversation, KnowledgeItem, Picture
from benchmarks.registry import INJECTION_FILE
from harness.storage.files import atomic_replace, atomic_write, translate_os_errors
from methods.augmentation.datasets import TRAINING_FILE
from methods.augmentation.pictures import EditedPicture

IMAGES = "imgs"
DATASET = "dataset"
PICTURE_NAME = re.compile(IMAGES + r"/[0-9a-f]{2}/[0-9a-f]{64}\..+")
"""Names of the pictures written here."""
BUFFERED_ROWS = 256
"""Rows of the `datasets` folder that are held in memory."""
_SUFFIXES = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"RIFF": ".webp",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}
"""By the first bytes of a file."""
Row = dict[str, Any]


@dataclass(frozen=True)
class ConversationRow:
    """A conversation's row, and the bytes of its pictures by the names in the row."""

    row: Row
    pictures: Mapping[str, bytes]


def save_conversation(conversation: Conversation, item_id: str, out: Path, extra: Mapping[str, Any]) -> ConversationRow:
    """Write a conversation's pictures, and make its row with ``extra`` columns. Thread-safe."""
    pictures = {}
    for picture in conversation.pictures:
        content, suffix = encode_picture(picture)
        pictures[_write_picture(out, content, suffix)] = content
    return ConversationRow(conversation_row(conversation, item_id, list(pictures), extra), pictures)


def save_item(item: KnowledgeItem, out: Path) -> Row:
    """Write an item's own picture, and make the item's row. Thread-safe."""
    return injection_row(item, save_picture(item.picture, out))


def save_picture(picture: Picture, out: Path) -> str:
    """Write a picture under a name made of its content; returns its path relative to ``out``. Thread-safe."""
    return _write_picture(out, *encode_picture(picture))


def encode_picture(picture: Picture) -> tuple[bytes, str]:
    """A picture's bytes and suffix: the original's, or for an edited picture new bytes in a similar format."""
    content = Picture(picture.source).encoded
    suffix = next((suffix for magic, suffix in _SUFFIXES.items() if content.startswith(magic)), ".img")
    if not isinstance(picture, EditedPicture):
        return content, suffix
    if suffix != ".jpg":
        return picture.encoded, ".png"
    buffer = io.BytesIO()
    picture.pixels().save(buffer, "JPEG", quality=92)
    return buffer.getvalue(), suffix


def _write_picture(out: Path, content: bytes, suffix: str) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    name = f"{IMAGES}/{sha256[:2]}/{sha256}{suffix}"
    path = out / name
    if not (path.is_file() and path.read_bytes() == content):
        atomic_write(path, content, flush=False)
    return name


class _JsonList:
    """A JSON list that is written row by row."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._prefix = file, "[\n"

    def append(self, row: Row) -> None:
        self._file.write(self._prefix + json.dumps(row, ensure_ascii=False))
        self._prefix = ",\n"

    def close(self) -> None:
        self._file.write("[]\n" if self._prefix == "[\n" else "\n]\n")


class Output:
    """The files of rows; see ``open_output``."""

    def __init__(self, knowledge: TextIO, training: TextIO, table: Any, schema: Any) -> None:
        self._knowledge, self._training = _JsonList(knowledge), _JsonList(training)
        self._table, self._schema = table, schema
        self._buffer: list[Row] = []

    def add_item(self, row: Row) -> None:
        """Add a row to the file of knowledge."""
        self._knowledge.append(row)

    def add_conversation(self, conversation: ConversationRow) -> None:
        """Add a row to the training data and to the `datasets` folder."""
        row = conversation.row
        self._training.append(row)
        images = [{"bytes": content, "path": name} for name, content in conversation.pictures.items()]
        turns = [{"from": turn["from"], "value": turn["value"]} for turn in row["conversations"]]
        texts = {name: str(row[name]) for name in ("id", "item", "branch")}
        self._buffer.append({**texts, "images": images, "conversations": turns})
        if len(self._buffer) >= BUFFERED_ROWS:
            self._flush()

    def close(self) -> None:
        """Write the end of all files."""
        self._flush()
        self._knowledge.close()
        self._training.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._buffer:
            self._table.write_table(pa.Table.from_pylist(self._buffer, schema=self._schema))
            self._buffer = []


@contextmanager
def open_output(out: Path) -> Iterator[Output]:
    """Open the files of rows; they replace those of an earlier run when the block ends without an error."""
    import pyarrow.parquet as pq

    schema = _arrow_schema()
    with ExitStack() as stack:
        with translate_os_errors(out):
            out.mkdir(parents=True, exist_ok=True)
        names = (INJECTION_FILE, TRAINING_FILE, f"{DATASET}/data/train.parquet")
        paths = [stack.enter_context(atomic_replace(out / name)) for name in names]
        files = [stack.enter_context(path.open("w", encoding="utf-8")) for path in paths[:2]]
        table = stack.enter_context(pq.ParquetWriter(paths[2], schema, compression="zstd"))
        output = Output(files[0], files[1], table, schema)
        yield output
        output.close()


def _arrow_schema() -> Any:
    """The columns of the `datasets` folder, with pictures that `datasets` decodes."""
    from datasets import Features, Image, List, Value

    turn = {"from": Value("string"), "value": Value("string")}
    columns = {"id": Value("string"), "item": Value("string"), "branch": Value("string")}
    return Features({**columns, "images": List(Image()), "conversations": List(turn)}).arrow_schema


def write_dataset_card(out: Path, lines: Sequence[str]) -> None:
    """Write the README of the `datasets` folder."""
    head = ["---", "configs:", "- config_name: default", "  data_files: data/*.parquet", "---", ""]
    atomic_write(out / DATASET / "README.md", "\n".join([*head, *lines]) + "\n")
