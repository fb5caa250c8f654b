"""Read rows of any format: JSON, JSONL, CSV, TSV, Parquet, Arrow, or a folder of a `datasets` data set.

Each row is a dictionary and has a line, or in a table a number, so that a bad one can be named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from benchmarks.data.csv_rows import csv_rows
from benchmarks.data.json_rows import Layout, Row, RowErrors, json_lines, json_list
from benchmarks.data.pictures import dataset_file
from benchmarks.data.tables import TABLES, table_files, table_rows
from benchmarks.errors import UserError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = frozenset({".json", ".jsonl", ".ndjson", *SEPARATORS, *TABLES})
"""Endings of files with rows."""
METADATA = ("metadata.csv", "metadata.jsonl", "train/metadata.csv", "train/metadata.jsonl")
"""Files with rows in a folder of pictures, as `datasets` calls them."""
TRAIN, TEST = "train", "test"


def is_data_path(text: str, base: Path = Path()) -> bool:
    """Whether a setting's text is the path of a file or folder with rows, relative to ``base``, rather than a name."""
    return "/" in text or Path(text).suffix.lower() in SUFFIXES or (base / text).is_dir()


def find_rows(path: Path, names: Sequence[str]) -> Path:
    """The file with a folder's rows; the folder itself if it holds Parquet or Arrow files, and any file as it is.

    Args:
        path: A file or a folder.
        names: The names that a file may have, in order; also where published data sets have their JSON.

    Returns:
        If the folder holds none of these, the first name in it, which does not exist.
    """
    if not path.is_dir():
        return path
    files = [dataset_file(path, name) for name in names] + [path / name for name in METADATA]
    found = next((file for file in files if file.is_file()), None)
    if found is None and table_files(path):
        return path
    return found or files[0]


def folder_of(path: Path) -> Path:
    """The folder that the names of a file's pictures are relative to; of a folder, itself."""
    return path if path.is_dir() else path.parent


def read_rows(path: Path, errors: RowErrors, split: str = TRAIN) -> Iterator[tuple[int, Row]]:
    """Yield (line or number, row) of a file, or of all files of one split in a folder.

    Args:
        path: From ``find_rows``.
        errors: Bad rows are added to it.
        split: The split that is read if a folder has several.

    Raises:
        UserError: The file cannot be read, or a folder has several splits and none of this name, or several data sets.
    """
    if path.is_dir():
        for errors.part in _files_of_split(path, split):
            yield from table_rows(errors.part, errors)
        errors.part = None
        return
    suffix = path.suffix.lower()
    if suffix in TABLES:
        yield from table_rows(path, errors)
    elif suffix in SEPARATORS:
        yield from csv_rows(path, errors, SEPARATORS[suffix])
    else:
        yield from (
            json_list(path, errors) if suffix == ".json" and not _has_json_lines(path) else json_lines(path, errors)
        )


def row_place(path: Path, index: int, layout: Layout) -> str:
    """The file and line of a row that was read without errors, as errors name it.

    Args:
        path: From ``find_rows``.
        index: How many rows are before it.
        layout: How the rows were read.
    """
    errors = RowErrors(path, "")
    line, _ = next(islice(layout(path, errors), index, None))
    return f"{errors.part or path}:{line}"


def _files_of_split(folder: Path, split: str) -> Sequence[Path]:
    splits = table_files(folder)
    if split in splits or len(splits) == 1:
        files = splits.get(split) or next(iter(splits.values()))
        parts = sorted({file.parent.relative_to(folder).as_posix() for file in files})
        if len(parts) == 1:
            return files
        shown = ", ".join(parts[:5])
        raise UserError(f"it holds several data sets: {shown}", location=str(folder), hint="give the folder of one")
    found = f"the splits {', '.join(sorted(splits))}" if splits else "no Parquet or Arrow file"
    hint = "give one of its files" if splits else f"give a file that ends in {', '.join(sorted(SUFFIXES))}"
    raise UserError(f"the folder has {found}, and {split!r} is read", location=str(folder), hint=hint)


def _has_json_lines(path: Path) -> bool:
    """Whether a file that ends in .json holds one object per line, as some published files do."""
    try:
        with path.open("rb") as file:
            first, second = file.readline().strip(), file.readline().strip()
    except OSError:
        return False
    return first.startswith(b"{") and first.endswith(b"}") and second.startswith(b"{")
