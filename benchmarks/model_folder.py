"""A model's folder in Hugging Face layout: whether it is one, and what identifies its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container
from pathlib import Path

from benchmarks.errors import UserError


def check_model_folder(folder: Path) -> None:
    """Refuse a folder without a model.

    Raises:
        UserError: It has no ``config.json``.
    """
    if not (folder / "config.json").is_file():
        raise UserError(
            "this is not a model folder: config.json is missing",
            location=str(folder),
            hint="give a local folder in Hugging Face layout, with config, tokenizer and safetensors",
        )


def shard_names(folder: Path) -> list[str]:
    """The files that the index of a model's weights names; none without an index.

    Raises:
        UserError: The index cannot be read, or names no files.
    """
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return []
    try:
        names = sorted({str(name) for name in json.loads(index.read_text("utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        names = []
    if not names:
        raise UserError("this index names no files of weights", location=str(index), hint="download the missing files")
    return names


def file_digests(folder: Path, ignored: Container[str] = ()) -> list[list[str]]:
    """Name and SHA-256 of each file in a folder, sorted by name; hidden files and subfolders are left out.

    Args:
        folder: The folder.
        ignored: Names of files to leave out.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return [[name, _sha256(folder / name)] for name in names if name not in ignored]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
