"""Build questions from a benchmark's TSV: VLMEvalKit builds the prompts, this module checks the rows.

Runs in ``vlmeval.worker``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from string import ascii_uppercase
from typing import Any

from PIL import Image

from benchmarks.data.csv_rows import csv_rows
from benchmarks.data.json_rows import RowErrors, bad_rows_error
from benchmarks.errors import UserError, one_line, shown
from benchmarks.records import IMAGE
from benchmarks.retention_specs import CLASS_OF_LLAVA, RetentionSpec, spec_of_job
from benchmarks.vlmeval import adapter, prompts_class_of_llava, prompts_llava
from benchmarks.vlmeval.client import LEFT_OUT
from benchmarks.vlmeval.result import MME_GROUPS
from benchmarks.vlmeval.safe_literal import parse_literal

NO_PICTURE = "without a picture"
MIN_IMAGE_LENGTH = 64
"""A shorter image column is the index of the row whose image to use (VLMEvalKit's rule)."""

_MARKER = re.compile(r"<image [^>\n]{0,20}>?")
_READ_MARKER = re.compile(r"<image [1-9]>")

MAY_BE_EMPTY = {"MMMU": ("A", "B"), "MathVista": ("choices", "answer_option", "skills")}
"""Columns that a table must have but a row may leave empty."""


def build_questions(job: dict[str, Any]) -> dict[str, Any]:
    """All questions of the scored split, in the table's order, with their pictures unpacked below ``job["folder"]``."""
    kit = adapter.safe_kit()
    spec, folder = spec_of_job(job), Path(job["folder"])
    folder.mkdir(parents=True)
    table = checked_table(kit, spec, Path(job["tsv"]))
    dataset = adapter.build_dataset(kit, spec, Path(job["tsv"]), folder / "lmu")
    _name_files_by_content(dataset.data)
    scored = set(in_split(spec, table)["index"].astype(str))
    rows = [dataset.data.iloc[i] for i in range(len(dataset.data)) if str(dataset.data.iloc[i]["index"]) in scored]
    if len(rows) != len(scored) and not is_published(spec, Path(job["tsv"])):
        raise UserError(
            f"VLMEvalKit left out {len(scored) - len(rows)} of {len(scored)} rows",
            location=job["tsv"],
            hint="give each row a picture, in the column image",
        )
    left_out = {f"not of the split {spec.split!r}": len(table) - len(scored), NO_PICTURE: len(scored) - len(rows)}
    text = json.dumps({reason: count for reason, count in left_out.items() if count})
    (folder / LEFT_OUT).write_text(text, "utf-8")
    chances = _chances(spec, rows)
    questions, problems = [], []
    for row in rows:
        try:
            questions.append(_question(spec, dataset, row, folder, job["protocol"]))
        except Exception as error:  # whatever VLMEvalKit's code raises on a row
            number = list(table["index"].astype(str)).index(str(row["index"])) + 2
            cause = one_line(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {one_line(error)}"
            problems.append(f"row {number} (index {row['index']}): its prompt cannot be built ({cause})")
    if problems:
        raise bad_rows_error(problems, Path(job["tsv"]), "fix or delete these rows; nothing was asked")
    return {"rows": [question | {"chance": chances[question["id"]]} for question in questions]}


def _name_files_by_content(data: Any) -> None:
    """Give each picture of a dataset's table a file name of its own, in place.

    VLMEvalKit writes a picture to the name in ``image_path`` only if there is no such file yet. Rows with one name but
    different pictures would all be asked about the first of them.
    """
    if "image" not in data or "image_path" not in data:
        return
    names: list[Any] = []
    for pictures, given in zip(data["image"], data["image_path"], strict=True):
        if isinstance(pictures, list) and isinstance(given, list):
            names.append([_content_name(*pair) for pair in zip(pictures, given, strict=True)])
        else:
            names.append(_content_name(pictures, given) if isinstance(given, str) else given)
    data["image_path"] = names


def _content_name(code: object, given: str) -> str:
    """A name by a picture's content; the ending stays, since it decides the format in which the picture is written."""
    return f"{hashlib.sha256(str(code).encode()).hexdigest()[:32]}{PurePosixPath(given).suffix}"


def _chances(spec: RetentionSpec, rows: Sequence[Any]) -> dict[str, float]:
    """Chance levels by id: uniform over a row's options, else the share of the most frequent answer."""
    options = {str(row["index"]): _option_count(spec, row) for row in rows}
    free = [str(row["answer"]) for row in rows if "answer" in row and not options[str(row["index"])]]
    constant = max(Counter(free).values()) / len(free) if free else 0.0
    if spec.judge == "grade":
        constant = 0.0
    return {index: 1 / count if count else constant for index, count in options.items()}


def _option_count(spec: RetentionSpec, row: Any) -> int:
    if spec.family == "yes-no":
        return 2
    if spec.family == "choice":
        return sum(isinstance(row.get(letter), str) for letter in ascii_uppercase)
    multiple = row.get("question_type", "multi_choice") == "multi_choice"
    return len(_elements(row["choices"])) if spec.judge == "extract" and multiple else 0


def in_split(spec: RetentionSpec, table: Any) -> Any:
    """The rows of the scored split; all rows if the table has no splits."""
    if not spec.split or "split" not in table:
        return table
    return table[table["split"] == spec.split]


def _question(spec: RetentionSpec, dataset: Any, row: Any, folder: Path, protocol: str) -> dict[str, Any]:
    """A question as plain data, with the prompt of the protocol."""
    as_llava = protocol == CLASS_OF_LLAVA
    own = as_llava and spec.family == "choice"
    message: Any = prompts_class_of_llava.build_message(dataset, row) if own else dataset.build_prompt(row)
    turns = [part["content"] for part in message if part["role"] == "user"] if spec.family == "mmdu" else [message]
    paths = [Path(part["value"]) for turn in turns for part in turn if part["type"] == "image"]
    if lost := [path.name for path in paths if not path.is_file()]:
        raise ValueError(f"its picture {shown(lost[0])} is not in the table; give it in base64, in the column image")
    pictures = [
        [os.path.relpath(path, folder).replace(os.sep, "/"), hashlib.sha256(path.read_bytes()).hexdigest()]
        for path in paths
    ]
    if protocol == "llava":
        text = {"type": "text", "value": prompts_llava.build_prompt(spec, row)}
        turns = [[part for part in message if part["type"] == "image"] + [text]]
    group, kind = labels(spec, row)
    return {
        "id": str(row["index"]),
        "turns": [(prompts_class_of_llava.turn_text if as_llava else turn_text)(turn) for turn in turns],
        "table_text": row["question"] if isinstance(row.get("question"), str) else "",
        "pictures": pictures,
        "reference": str(row["answer"]) if "answer" in row else str(row["components"]),
        "group": group,
        "type": kind,
        "cluster": _cluster(spec, row, [digest for _, digest in pictures]),
    }


def turn_text(parts: Sequence[dict[str, str]]) -> str:
    """One user turn: pictures as markers, parts joined by newlines. Markers in the table's own text are replaced."""
    texts = (IMAGE if part["type"] == "image" else part["value"].replace(IMAGE, "image") for part in parts)
    return "\n".join(texts).rstrip()


def labels(spec: RetentionSpec, row: Any) -> tuple[str, str]:
    """Coarse group and fine-grained type of a row."""

    def column(name: str) -> str:
        value = row.get(name, "")
        return value if isinstance(value, str) else ""

    category, l2_category = column("category"), column("l2-category")
    if spec.name == "MME":
        return next((group for group, names in MME_GROUPS.items() if category in names), ""), category
    if spec.name == "HallusionBench":
        return category, l2_category
    if spec.family == "mathvista":
        return "", column("task")
    if spec.family == "mia":
        return "", column("type")
    return l2_category, category


def _cluster(spec: RetentionSpec, row: Any, digests: Iterable[str]) -> str:
    if spec.cluster == "column":
        return str(row["cluster"])
    if spec.cluster == "set":
        return f"{row['l2-category']}_{str(row['index']).split('_')[3]}"
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def checked_table(kit: adapter.VLMEvalModules, spec: RetentionSpec, path: Path) -> Any:
    """Read a table and check every column and row that VLMEvalKit would fail on or silently score wrong.

    Raises:
        UserError: The table is bad; lists the bad rows (the first 20) by number and index.
    """
    table = _read_table(kit, spec, path)
    missing = [name for name in ("index", *spec.columns) if name not in table]
    if "image" not in table and "image_path" not in table:
        missing.append("image")
    if missing:
        raise UserError(
            f"the column {missing[0]!r} is missing; the table has {', '.join(map(repr, table.columns))}",
            location=str(path),
            hint=f"write the table in {spec.dataset}'s format",
        )
    if not len(table):
        raise UserError("the table holds no row", location=str(path), hint="add rows below the first line")
    problems = list(_bad_rows(spec, table))
    empty = list(_rows_without_picture(table))
    if empty and not is_published(spec, path):  # published numbers are without them
        problems += empty
    if problems:
        raise bad_rows_error(problems, path, "fix or delete these rows; nothing was scored")
    if not len(in_split(spec, table)):
        splits = ", ".join(sorted(map(str, set(table["split"])))) if "split" in table else "no rows"
        raise UserError(
            f"no row of split {spec.split!r}; there is {splits}", location=str(path), hint="check the table"
        )
    return table


def _read_table(kit: adapter.VLMEvalModules, spec: RetentionSpec, path: Path) -> Any:
    """The table as VLMEvalKit's reader gives it, once each of its lines is accounted for.

    That reader takes whatever stands between two quotes as one cell, fills short rows and drops quotes. A published
    table is read as everybody reads it.
    """
    errors = RowErrors(path, "correct these lines: UTF-8, columns separated by tabs; nothing was asked")
    rows = sum(1 for _ in csv_rows(path, errors, "\t"))
    as_published = bool(errors.problems) and is_published(spec, path)
    if not as_published:
        errors.raise_if_any()
    try:
        table = adapter.read_table(kit, path)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(
            f"the table cannot be read ({one_line(error)})", location=str(path), hint="check its quotes and tabs"
        ) from error
    if not as_published and len(table) != rows:
        message = f"the table has {rows:,} rows, but VLMEvalKit reads {len(table):,}"
        raise UserError(message, location=str(path), hint="check its quotes and line ends")
    return table


def is_published(spec: RetentionSpec, path: Path) -> bool:
    """Whether a table is the published one, by its md5."""
    if not spec.md5:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest() == spec.md5


def _rows_without_picture(table: Any) -> Iterable[str]:
    """The rows that VLMEvalKit would leave out."""
    if "image" not in table:
        return
    for number, (index, image) in enumerate(zip(table["index"], table["image"], strict=True), start=2):
        if not isinstance(image, str):
            yield f"row {number} (index {index}): it has no picture: its column image is empty"


def _bad_rows(spec: RetentionSpec, table: Any) -> Iterable[str]:
    rows = table.to_dict("records")
    images = {str(row["index"]): row.get("image") for row in rows}
    pairs = Counter((row.get("category"), row.get("image_path")) for row in rows)
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=2):
        index = str(row["index"])
        problems = [*_row_problems(spec, row), *_picture_problems(row, images)]
        if spec.name == "MMMU":
            problems += _marker_problems(row, images)
        if index in seen:
            problems.append(f"the index was used in row {seen[index]} already")
        seen.setdefault(index, number)
        if spec.name == "MME" and pairs[row["category"], row["image_path"]] != 2:
            problems.append("MME asks exactly two questions about each image")
        if problems:
            yield f"row {number} (index {index}): {'; '.join(problems)}"


def _row_problems(spec: RetentionSpec, row: dict[str, Any]) -> Iterable[str]:
    index = str(row["index"])
    if PurePosixPath(index).name != index or index in ("", ".", "..", "nan") or "\\" in index:
        yield "the index must be a plain number or word"
    optional = MAY_BE_EMPTY.get(spec.name, ())
    for name in spec.columns:
        missing = row[name] != row[name]  # pandas marks an empty field with NaN, which is not equal to itself
        if name not in optional and (missing or not str(row[name]).strip()):
            yield f"{name} is empty"
    if spec.family == "yes-no" and row["answer"] not in ("Yes", "No"):
        yield f"the answer must be 'Yes' or 'No', not {shown(row['answer'])}"
    if spec.family == "choice" and spec.name != "MMMU" and not isinstance(row.get(str(row["answer"])), str):
        yield f"the answer {shown(row['answer'])} is not an option of this row"
    if spec.name == "MME" and not any(row["category"] in names for names in MME_GROUPS.values()):
        yield f"{row['category']!r} is not one of MME's fourteen categories"
    if spec.name == "HallusionBench" and len(index.split("_")) < 6:
        yield "the index must contain set, figure and question, as in VD_figure_1_0_1_0"
    if spec.is_circular and not index.isdigit():
        yield "the index must be a whole number"


def _picture_problems(row: dict[str, Any], images: dict[str, Any]) -> Iterable[str]:
    image, names = row.get("image"), row.get("image_path")
    if isinstance(image, str) and isinstance(names, str):
        yield from _file_name_problems(_elements(names), len(_elements(image)))
    for name in _elements(names):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
            yield f"the image_path {shown(name)} points outside the folder"
    if isinstance(image, str) and len(image) <= MIN_IMAGE_LENGTH:
        image = images.get(image)
        if not isinstance(image, str) or len(image) <= MIN_IMAGE_LENGTH:
            yield "the image refers to a row without an image"
            return
    for code in _elements(image):
        try:
            head = base64.b64decode(code[:MIN_IMAGE_LENGTH], validate=True)
        except (binascii.Error, ValueError):
            head = b""
        if not head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")):
            yield "the image is not a picture in base64"


def _file_name_problems(names: Sequence[str], pictures: int) -> Iterable[str]:
    """What keeps VLMEvalKit from writing a row's pictures under the names in its column ``image_path``."""
    for name in names:
        if PurePosixPath(name).suffix.lower() not in picture_suffixes():
            yield f"the image_path {shown(name)} does not end like a picture's name"
    if len(names) != pictures:
        yield f"there are {pictures} pictures but {len(names)} names in image_path"


@cache
def picture_suffixes() -> frozenset[str]:
    """The endings of file names that Pillow can write."""
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.SAVE)


def _marker_problems(row: dict[str, Any], images: dict[str, Any]) -> Iterable[str]:
    """Markers ``<image N>`` that VLMEvalKit cannot replace by one of the row's pictures; it reads a single digit."""
    image = row.get("image")
    if isinstance(image, str) and len(image) <= MIN_IMAGE_LENGTH:
        image = images.get(image)
    pictures = len(_elements(image if isinstance(image, str) else row.get("image_path")))
    texts = [row.get(name) for name in ("hint", "question", *ascii_uppercase)]
    for marker in _MARKER.findall("\n".join(text for text in texts if isinstance(text, str))):
        if not _READ_MARKER.fullmatch(marker):
            yield f"VLMEvalKit cannot read {marker!r}; it knows <image 1> to <image 9>"
        elif int(marker[7]) > pictures:
            yield f"{marker!r} names picture {marker[7]}, but there are {pictures}"


def _elements(value: object) -> list[str]:
    """The elements of a list written as text, or the text itself; empty if the field is empty."""
    if not isinstance(value, str):
        return []
    if value.startswith("[") and value.endswith("]"):
        try:
            parsed = parse_literal(value)
        except SyntaxError:
            return [value]
        return [str(element) for element in parsed] if isinstance(parsed, list) else [value]
    return [value]
