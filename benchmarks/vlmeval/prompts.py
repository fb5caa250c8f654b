"""From a benchmark's TSV to questions: VLMEvalKit builds the prompts, this checks the rows.

Runs in ``vlmeval.worker``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from string import ascii_uppercase
from typing import Any

from benchmarks.data.json_rows import SHOWN
from benchmarks.errors import UserError
from benchmarks.records import IMAGE
from benchmarks.retention_specs import BY_NAME, RetentionSpec
from benchmarks.vlmeval import adapter as vlmeval_adapter
from benchmarks.vlmeval import safe_literal as arithmetic
from benchmarks.vlmeval.result import MME_GROUPS

Prompt = Callable[[RetentionSpec, Any], str]
LEAST_IMAGE = 64
"""A shorter image column names another row whose image is meant (VLMEvalKit's rule)."""

MAY_BE_EMPTY = {"MMMU": ("A", "B"), "MathVista": ("choices", "answer_option", "skills")}
"""Columns that a table must have but a row may leave empty."""


def questions(job: dict[str, Any]) -> dict[str, Any]:
    """All questions of the scored split, in the table's order, with their pictures unpacked below ``job["folder"]``."""
    from benchmarks.vlmeval import rules_llava as vlmeval_llava

    kit = vlmeval_adapter.safe_kit()
    spec, folder = BY_NAME[job["spec"]], Path(job["folder"])
    folder.mkdir(parents=True)
    table = checked_table(kit, spec, Path(job["tsv"]))
    dataset = vlmeval_adapter.build(kit, spec, Path(job["tsv"]), folder / "lmu")
    wanted = set(in_split(spec, table)["index"].astype(str))
    rows = [dataset.data.iloc[i] for i in range(len(dataset.data)) if str(dataset.data.iloc[i]["index"]) in wanted]
    if not rows:
        raise UserError("no row of the table has an image", location=job["tsv"], hint="check the image column")
    chances = _chances(spec, rows)
    own = vlmeval_llava.prompt if job["protocol"] == "llava" else None
    found = [_row(spec, dataset, row, folder, own) for row in rows]
    return {"rows": [row | {"chance": chances[row["id"]]} for row in found]}


def _chances(spec: RetentionSpec, rows: Sequence[Any]) -> dict[str, float]:
    """How likely blind guessing is right, by id: even among a row's options, else the most frequent answer."""
    options = {str(row["index"]): _option_count(spec, row) for row in rows}
    free = [str(row["answer"]) for row in rows if "answer" in row and not options[str(row["index"])]]
    constant = max(free.count(answer) for answer in set(free)) / len(free) if free else 0.0
    if spec.judge == "grade":
        constant = 0.0
    return {index: 1 / count if count else constant for index, count in options.items()}


def _option_count(spec: RetentionSpec, row: Any) -> int:
    if spec.family == "yes-no":
        return 2
    if spec.family == "choice":
        return sum(isinstance(row.get(letter), str) for letter in ascii_uppercase)
    multiple = row.get("question_type", "multi_choice") == "multi_choice"
    return len(_parts(row["choices"])) if spec.judge == "extract" and multiple else 0


def in_split(spec: RetentionSpec, table: Any) -> Any:
    """The rows of the split that the headline is about; all where the table has no splits."""
    if not spec.split or "split" not in table:
        return table
    return table[table["split"] == spec.split]


def _row(spec: RetentionSpec, dataset: Any, row: Any, folder: Path, own: Prompt | None) -> dict[str, Any]:
    """A question as plain data; ``own`` words it otherwise than VLMEvalKit."""
    message = dataset.build_prompt(row)
    turns = [part["content"] for part in message if part["role"] == "user"] if spec.family == "mmdu" else [message]
    paths = [Path(part["value"]) for turn in turns for part in turn if part["type"] == "image"]
    pictures = [
        [os.path.relpath(path, folder).replace(os.sep, "/"), hashlib.sha256(path.read_bytes()).hexdigest()]
        for path in paths
    ]
    if own:
        turns = [[part for part in message if part["type"] == "image"] + [{"type": "text", "value": own(spec, row)}]]
    group, kind = labels(spec, row)
    return {
        "id": str(row["index"]),
        "turns": [turn_text(turn) for turn in turns],
        "pictures": pictures,
        "reference": str(row["answer"]) if "answer" in row else str(row["components"]),
        "group": group,
        "type": kind,
        "cluster": _cluster(spec, row, [digest for _, digest in pictures]),
    }


def turn_text(parts: Sequence[dict[str, str]]) -> str:
    """One user turn: pictures as markers, parts joined by newlines. A marker in the table's own text is no picture."""
    texts = (IMAGE if part["type"] == "image" else part["value"].replace(IMAGE, "image") for part in parts)
    return "\n".join(texts).rstrip()


def labels(spec: RetentionSpec, row: Any) -> tuple[str, str]:
    """Coarse group and fine type of a row."""

    def column(name: str) -> str:
        value = row.get(name, "")
        return value if isinstance(value, str) else ""

    category, wide = column("category"), column("l2-category")
    if spec.name == "MME":
        return next((group for group, names in MME_GROUPS.items() if category in names), ""), category
    if spec.name == "HallusionBench":
        return category, wide
    if spec.family == "mathvista":
        return "", column("task")
    if spec.family == "mia":
        return "", column("type")
    return wide, category


def _cluster(spec: RetentionSpec, row: Any, digests: Iterable[str]) -> str:
    if spec.cluster == "set":
        return f"{row['l2-category']}_{str(row['index']).split('_')[3]}"
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


# Checks. A row that VLMEvalKit would stumble over, or silently score wrong, is told by number and index.


def checked_table(kit: vlmeval_adapter.VLMEvalModules, spec: RetentionSpec, path: Path) -> Any:
    """The table, with every column and every row as the benchmark's format wants it.

    Raises:
        UserError: It lists the bad rows (the first 20).
    """
    hint = "mend or delete these rows; nothing was scored"
    try:
        table = vlmeval_adapter.read_table(kit, path)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(
            f"the table cannot be read ({error})", location=str(path), hint="fetch the TSV again"
        ) from error
    missing = [name for name in ("index", *spec.columns) if name not in table]
    if "image" not in table and "image_path" not in table:
        missing.append("image")
    if missing:
        raise UserError(
            f"the column {missing[0]!r} is missing; the table has {', '.join(map(repr, table.columns))}",
            location=str(path),
            hint=f"write the table in {spec.dataset}'s format",
        )
    problems = list(_bad_rows(spec, table))
    if problems:
        shown = "\n  ".join(problems[:SHOWN])
        more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise UserError(f"{len(problems)} bad rows:\n  {shown}{more}", location=str(path), hint=hint)
    if not len(in_split(spec, table)):
        found = ", ".join(sorted(map(str, set(table["split"])))) if "split" in table else "no rows"
        raise UserError(f"no row of split {spec.split!r}; there is {found}", location=str(path), hint="check the table")
    return table


def _bad_rows(spec: RetentionSpec, table: Any) -> Iterable[str]:
    rows = table.to_dict("records")
    images = {str(row["index"]): row.get("image") for row in rows}
    pairs: dict[tuple[Any, Any], int] = {}
    seen: dict[str, int] = {}
    for row in rows:
        pair = (row.get("category"), row.get("image_path"))
        pairs[pair] = pairs.get(pair, 0) + 1
    for number, row in enumerate(rows, start=2):
        index = str(row["index"])
        faults = [*_faults(spec, row), *_picture_faults(row, images)]
        if index in seen:
            faults.append(f"the index was used in row {seen[index]} already")
        seen.setdefault(index, number)
        if spec.name == "MME" and pairs[row["category"], row["image_path"]] != 2:
            faults.append("MME asks exactly two questions about an image")
        if faults:
            yield f"row {number} (index {index}): {'; '.join(faults)}"


def _faults(spec: RetentionSpec, row: dict[str, Any]) -> Iterable[str]:
    index = str(row["index"])
    if PurePosixPath(index).name != index or index in ("", ".", "..", "nan") or "\\" in index:
        yield "the index must be a plain number or word"
    may_be_empty = MAY_BE_EMPTY.get(spec.name, ())
    for name in spec.columns:
        missing = row[name] != row[name]  # pandas' mark of an empty field is no number, and equals nothing
        if name not in may_be_empty and (missing or not str(row[name]).strip()):
            yield f"{name} is empty"
    if spec.family == "yes-no" and row["answer"] not in ("Yes", "No"):
        yield f"the answer must be 'Yes' or 'No', not {row['answer']!r}"
    if spec.family == "choice" and spec.name != "MMMU" and not isinstance(row.get(str(row["answer"])), str):
        yield f"the answer {row['answer']!r} is no option of this row"
    if spec.name == "MME" and not any(row["category"] in names for names in MME_GROUPS.values()):
        yield f"{row['category']!r} is none of MME's fourteen categories"
    if spec.name == "HallusionBench" and len(index.split("_")) < 6:
        yield "the index must hold set, figure and question, as in VD_figure_1_0_1_0"
    if spec.name == "MMBench" and not index.isdigit():
        yield "the index must be a whole number"


def _picture_faults(row: dict[str, Any], images: dict[str, Any]) -> Iterable[str]:
    image, names = row.get("image"), row.get("image_path")
    for name in _parts(names):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
            yield f"the image_path {name!r} leads out of the folder"
    if isinstance(image, str) and len(image) <= LEAST_IMAGE:
        image = images.get(image)
        if not isinstance(image, str) or len(image) <= LEAST_IMAGE:
            yield "the image names a row that has none"
            return
    for code in _parts(image):
        try:
            head = base64.b64decode(code[:LEAST_IMAGE], validate=True)
        except (binascii.Error, ValueError):
            head = b""
        if not head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")):
            yield "the image is no picture in base64"


def _parts(value: object) -> list[str]:
    """The elements of a list written as text, or the text itself; nothing where the field is empty."""
    if not isinstance(value, str):
        return []
    if value.startswith("[") and value.endswith("]"):
        try:
            found = arithmetic.literal(value)
        except SyntaxError:
            return [value]
        return [str(part) for part in found] if isinstance(found, list) else [value]
    return [value]
