"""The table of a benchmark of one's own: a TSV or JSONL is read, checked and written in VLMEvalKit's schema."""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from string import ascii_uppercase
from typing import Any

from benchmarks.data.csv_rows import csv_rows
from benchmarks.data.json_rows import Row, RowErrors
from benchmarks.data.pictures import find_beside
from benchmarks.data.rows import read_rows
from benchmarks.errors import UserError, shown, suggest
from benchmarks.further import FurtherBenchmark
from benchmarks.judges import JudgeClient
from benchmarks.records import Picture
from benchmarks.retention import Retention
from benchmarks.retention_specs import Protocol
from benchmarks.vlmeval.safe_literal import parse_literal

HINT = "fix or delete these rows; nothing was asked"
TEXTS = frozenset({".jsonl", ".ndjson", ".json", ".csv"})
"""Endings of tables that are not read as TSV."""
LONGEST_PATH = 1024
YES_NO = {"yes": "Yes", "no": "No", "true": "Yes", "false": "No"}
COPIED = ("hint", "category", "l2-category", "g_index")


class OwnBenchmark(Retention):
    """A benchmark of one's own. Its table is read when it is first needed.

    Args:
        benchmark: What its file says.
        name: Its name.
        workspace, judge, protocol, max_new_tokens: As for ``Retention``.
    """

    def __init__(
        self,
        benchmark: FurtherBenchmark,
        name: str,
        workspace: Path,
        judge: str | JudgeClient,
        protocol: Protocol,
        max_new_tokens: int | None = None,
    ) -> None:
        self._benchmark, self._written = benchmark, Path()
        spec = benchmark.spec(name)
        super().__init__(
            benchmark.table or Path(), workspace, spec, name, judge, protocol, max_new_tokens=max_new_tokens
        )

    @property
    def data(self) -> Path:
        """The table in VLMEvalKit's schema.

        Raises:
            UserError: The table is missing, has no such column, or has bad rows, which are listed.
        """
        if not self._written.name:
            self._written = write_table(self._benchmark, self.workspace)
        return self._written

    @data.setter
    def data(self, path: Path) -> None:
        """Ignored: the benchmark's own file says where the table is."""


def write_table(benchmark: FurtherBenchmark, workspace: Path) -> Path:
    """Write the table in VLMEvalKit's schema, named by its content; pictures are part of it.

    Raises:
        UserError: As ``OwnBenchmark.data``.
    """
    table = benchmark.table or Path()
    rows = [row for _, row in _converted(benchmark, table)]
    letters = [letter for letter in ascii_uppercase if any(letter in row for row in rows)]
    copied = [name for name in COPIED if any(name in row for row in rows)]
    heads = ["index", "question", *letters, "answer", *copied, "cluster", "image"]
    workspace.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=workspace, suffix=".tsv")
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, heads, restval="", delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    with Path(name).open("rb") as written:
        digest = hashlib.file_digest(written, "sha256").hexdigest()
    return Path(name).replace(workspace / f"own-{digest[:32]}.tsv")


def _converted(benchmark: FurtherBenchmark, table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row by its line."""
    errors = RowErrors(table, HINT)
    rows = list(_rows(table, errors))
    if not rows and not errors.problems:
        errors.add(1, "the table has no rows")
    _check_columns(benchmark, rows, table)
    renamed = [(line, _renamed(benchmark, row)) for line, row in rows]
    indices = {_text(row.get("index")): row for _, row in renamed if _text(row.get("index"))}
    seen: dict[str, int] = {}
    good = []
    for number, (line, row) in enumerate(renamed, start=1):
        try:
            converted = _convert(benchmark, row, number, table.parent, indices)
            if converted["index"] in seen:
                raise ValueError(
                    f"the index {shown(converted['index'])} was used in line {seen[converted['index']]} already"
                )
            seen[converted["index"]] = line
            good.append((line, converted))
        except (ValueError, UserError) as error:
            errors.add(line, error.message if isinstance(error, UserError) else str(error))
    errors.raise_if_any()
    yield from good


def _rows(table: Path, errors: RowErrors) -> Iterator[tuple[int, Row]]:
    """The rows of a JSONL, JSON or CSV file, or of a TSV with any other ending, without their empty cells."""
    rows = read_rows(table, errors) if table.suffix.lower() in TEXTS else csv_rows(table, errors, "\t")
    for line, row in rows:
        yield line, {name: value for name, value in row.items() if name and value not in (None, "")}


def _check_columns(benchmark: FurtherBenchmark, rows: list[tuple[int, Row]], table: Path) -> None:
    """Refuse names of columns that no row has."""
    present = dict.fromkeys(name for _, row in rows for name in row)
    wanted = [*benchmark.columns.values(), *([benchmark.cluster] if benchmark.cluster != "image" else [])]
    for name in wanted if rows else []:
        if name not in present:
            raise UserError(
                f"the table has no column {name!r}",
                location=str(table),
                hint=f"{suggest(name, present)}it has {', '.join(present)}",
            )


def _renamed(benchmark: FurtherBenchmark, row: Row) -> Row:
    """A row by the names of VLMEvalKit's schema, with its cluster."""
    named = {name: row[column] for name, column in benchmark.columns.items() if column in row}
    rest = {name: value for name, value in row.items() if name not in benchmark.columns.values() and name not in named}
    cluster = {} if benchmark.cluster == "image" else {"cluster": row.get(benchmark.cluster)}
    return {**rest, **named, **cluster}


def _convert(
    benchmark: FurtherBenchmark, row: Row, number: int, folder: Path, rows: Mapping[str, Row]
) -> dict[str, str]:
    """A row in VLMEvalKit's schema.

    Raises:
        ValueError: It has no question, answer or picture, or they do not fit the family.
    """
    options = _options(row) if benchmark.family == "choice" else {}
    index, question = _text(row.get("index")) or str(number), _text(row.get("question"))
    if PurePosixPath(index).name != index or index in (".", "..") or "\\" in index:
        raise ValueError(f"the index {shown(index)} must be a plain number or word")
    if not question:
        raise ValueError("it has no question")
    converted = {name: _text(row[name]) for name in COPIED if _text(row.get(name))}
    if benchmark.cluster != "image":
        converted["cluster"] = _text(row.get("cluster"))
        if not converted["cluster"]:
            raise ValueError(f"its column {benchmark.cluster!r}, the cluster, is empty")
    answer = _answer(benchmark.family, row.get("answer"), options)
    image = _images(row, folder, rows)
    return {**converted, **options, "index": index, "question": question, "answer": answer, "image": image}


def _text(value: object) -> str:
    """A field as text; empty if it is missing."""
    if value is None or isinstance(value, dict | list):
        return ""
    return str(value).replace("\0", "").strip()


def _elements(value: object) -> list[str]:
    """The elements of a list, or of one written as text, or the only text."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            value = parse_literal(value)
        except SyntaxError:
            return [str(value)]
    if not isinstance(value, list):
        return [text] if (text := _text(value)) else []
    texts = list(map(_text, value))
    if not all(texts):
        raise ValueError(f"element {texts.index('') + 1} of the list {shown(value)} is empty, null or no text")
    return texts


def _options(row: Row) -> dict[str, str]:
    listed = _elements(row.get("options"))
    if len(listed) > len(ascii_uppercase):
        raise ValueError(f"it has {len(listed)} options; there are {len(ascii_uppercase)} letters")
    options = dict(zip(ascii_uppercase, listed, strict=False))
    options |= {letter: text for letter in ascii_uppercase if (text := _text(row.get(letter)))}
    if not {"A", "B"} <= options.keys():
        raise ValueError("it has fewer than two options (columns A, B, ... or a list `options`)")
    return options


def _answer(family: str, value: object, options: Mapping[str, str]) -> str:
    given = _elements(value)
    if not given:
        raise ValueError("it has no answer")
    if family == "open":
        return " <OR> ".join(given)
    if family == "short answer":
        return repr(given) if len(given) > 1 else given[0]
    if len(given) > 1:
        raise ValueError(f"the family {family!r} has one answer, not {len(given)}")
    if family == "yes-no":
        if given[0].lower() not in YES_NO:
            raise ValueError(f"the answer must be yes or no, not {shown(given[0])}")
        return YES_NO[given[0].lower()]
    if given[0] in options:
        return given[0]
    named = [letter for letter, text in options.items() if text == given[0]]
    if len(named) != 1:
        raise ValueError(f"the answer {shown(given[0])} is neither the letter nor the text of one of its options")
    return named[0]


def _images(row: Row, folder: Path, rows: Mapping[str, Row]) -> str:
    """The pictures in base64: one, or a list written as text."""
    fields = _elements(row.get("image")) or _elements(row.get("image_path"))
    if len(fields) == 1 and fields[0] in rows and fields[0] != _text(row.get("index")):
        fields = _elements(rows[fields[0]].get("image"))  # VLMEvalKit's tables name another row to save space
    if not fields:
        raise ValueError("it has no picture")
    codes = [_base64(value, folder) for value in fields]
    return codes[0] if len(codes) == 1 else repr(codes)


def _base64(value: str, folder: Path) -> str:
    """A picture in base64, from a file beside the table or as it is."""
    content = b""
    if len(value) <= LONGEST_PATH and (file := find_beside(folder, value)) is not None:
        content = file.read_bytes()
    elif len(value) > 64:
        try:
            content = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            content = b""
    if not content:
        raise ValueError(f"there is no picture {shown(value)}: neither a file beside the table nor base64")
    _check_picture(content, value)
    return base64.b64encode(content).decode("ascii")


def _check_picture(content: bytes, value: str) -> Any:
    try:
        return Picture(content).size
    except UserError as error:
        raise ValueError(f"the picture {shown(value)} is damaged or not an image") from error
