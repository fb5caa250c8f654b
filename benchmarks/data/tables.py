"""Read Parquet and Arrow files as `datasets` writes them. Their pictures stay on the disk until one is needed.

Read by pyarrow alone: nothing is unpickled, nothing is executed, and no cache is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.data.json_rows import Row, RowErrors
from benchmarks.errors import UserError

PARQUET, ARROW = ".parquet", ".arrow"
TABLES = frozenset({PARQUET, ARROW})
BYTES, PATH = "bytes", "path"
"""The fields of a picture in a table of `datasets`."""
BATCH = 64
"""Rows that are decoded at once."""


@dataclass(frozen=True)
class TablePicture:
    """The bytes of a picture in a table. Satisfies ``benchmarks.records.ReadableFile``.

    Args:
        file: The Parquet or Arrow file.
        time: When it was changed, in nanoseconds; a changed file is opened again.
        group: The row group of a Parquet file; 0 in an Arrow file.
        row: The number of the row in the group, from 0.
        column: The column.
        index: The number in the row's list of pictures; None if the column holds one picture.
        name: The path that the table gives, which need not exist.
    """

    file: Path
    time: int
    group: int
    row: int
    column: str
    index: int | None
    name: str

    def __str__(self) -> str:
        return f"{self.file}!{self.column} of row {self.row + 1} in group {self.group}"

    def read_bytes(self) -> bytes:
        """The bytes of the picture.

        Raises:
            OSError: The file is damaged, missing or another one.
        """
        import pyarrow as pa

        try:
            value = _column(self.file, self.time, self.group, self.column)[self.row].as_py()
            content = (value if self.index is None else value[self.index])[BYTES]
        except (pa.ArrowException, LookupError, TypeError) as error:
            raise OSError(0, f"the table is damaged or has changed: {error}") from error
        return bytes(content)


def table_files(folder: Path) -> dict[str, list[Path]]:
    """The Parquet and Arrow files of a folder by their split, in order; a folder that ``datasets`` wrote has no cache.

    A split is the name of the folder of one split, or the part of a file's name before ``-00000-of-00001``; files
    without either are ``train``.
    """
    splits: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part.startswith((".", "cache-")) for part in inside.parts)
        if path.suffix.lower() in TABLES and path.is_file() and not hidden:
            splits.setdefault(_split_of(inside), []).append(path)
    return splits


def _split_of(inside: Path) -> str:
    own = inside.stem.split("-")[0]
    folders = [part for part in inside.parts[:-1] if part not in ("data", "default")]
    if own.isdecimal() or own in ("data", "part", "dataset"):
        return folders[-1] if folders else "train"
    return own


def table_rows(path: Path, errors: RowErrors) -> Iterator[tuple[int, Row]]:
    """Yield (number from 1, row) of each row; empty cells are left out and pictures are ``TablePicture``.

    So are the empty fields of a mapping: Arrow gives the mappings of a column all fields that any of them has.

    Raises:
        UserError: The file is missing or damaged.
    """
    import pyarrow as pa

    number = 0
    try:
        time = path.stat().st_mtime_ns
        for group in range(_groups(path)):
            table = _open(path, group, None)
            rows = (row for batch in table.to_batches(max_chunksize=BATCH) for row in batch.to_pylist())
            for at, row in enumerate(rows):
                number += 1
                cell = (path, time, group, at)
                yield number, {name: _lazy(value, cell, name) for name, value in row.items() if value is not None}
    except (pa.ArrowException, OSError, ValueError) as error:  # text that is not UTF-8 is a ValueError
        raise UserError(
            f"the table cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
            location=f"{path}:{number + 1}",
            hint="check the path, or write the file again",
        ) from error


def _lazy(value: Any, cell: tuple[Path, int, int, int], column: str) -> Any:
    """The value, with the bytes of its pictures left in the table."""
    if _is_picture(value):
        return TablePicture(*cell, column, None, str(value.get(PATH) or ""))
    if isinstance(value, list) and any(map(_is_picture, value)):
        return [
            TablePicture(*cell, column, index, str(one.get(PATH) or "")) if _is_picture(one) else one
            for index, one in enumerate(value)
        ]
    return _without_nulls(value)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nulls(field) for name, field in value.items() if field is not None}
    return [_without_nulls(element) for element in value] if isinstance(value, list) else value


def _is_picture(value: object) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get(BYTES), bytes)


def _groups(path: Path) -> int:
    if path.suffix.lower() == ARROW:
        return 1
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return int(file.num_row_groups)


def _open(path: Path, group: int, columns: list[str] | None) -> Any:
    """A row group of a Parquet file, or the whole of an Arrow file, which is mapped and not read."""
    import pyarrow as pa

    if path.suffix.lower() == PARQUET:
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            return file.read_row_group(group, columns=columns)
    source = pa.memory_map(str(path))
    try:
        table = pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        table = pa.ipc.open_file(source).read_all()
    return table.select(columns) if columns else table


@lru_cache(maxsize=8)
def _column(file: Path, time: int, group: int, column: str) -> Any:
    if file.stat().st_mtime_ns != time:
        raise OSError(0, "the table has changed since it was read")
    return _open(file, group, [column]).column(column)
