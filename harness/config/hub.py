"""Hugging Face hub ids as local folders in the hub's cache. Nothing here uses the network."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

DATASET_PREFIX = "hub:"
"""Marks the name of a data set on the hub, where a path is possible as well."""
_REPOSITORY_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
Kind = Literal["model", "dataset"]


def model_path(text: str, base: Path) -> Path:
    """A model's folder: a path relative to ``base`` or, if none exists and it looks like one, a hub id."""
    path = base / Path(text).expanduser()
    if not path.exists() and _REPOSITORY_ID.fullmatch(text):
        return snapshot(text, "model")
    return _absolute(path)


def data_path(text: str, base: Path) -> Path:
    """A path relative to ``base``, or ``hub:OWNER/NAME`` for a data set on the hub."""
    if text.startswith(DATASET_PREFIX):
        return snapshot(text.removeprefix(DATASET_PREFIX), "dataset")
    return _absolute(base / Path(os.path.expandvars(text)).expanduser())


def training_data(text: str, base: Path) -> str:
    """As ``data_path``, except that the name of an augmentation stays as it is."""
    from methods.augmentation import datasets

    is_name = not text.startswith(DATASET_PREFIX) and not datasets.is_path(text, base)
    return text if is_name else str(data_path(text, base))


def _absolute(path: Path) -> Path:
    """Normalise a path without following links: a link in the hub's cache leads to a file without neighbours."""
    return Path(os.path.normpath(path.absolute()))


def snapshot(repository: str, kind: Kind) -> Path:
    """The folder of a repository's newest revision in the hub's cache; it need not exist."""
    folder = _cache() / f"{kind}s--{repository.replace('/', '--')}"
    try:
        commit = (folder / "refs" / "main").read_text("utf-8").strip()
    except OSError:
        commit = "main"
    return folder / "snapshots" / commit


def repository_of(path: Path) -> tuple[str, Kind] | None:
    """The id and kind of the repository whose snapshot this folder is; None for any other folder."""
    if path.parent.name != "snapshots":
        return None
    kind, *parts = path.parent.parent.name.split("--")
    if len(parts) != 2 or kind not in ("models", "datasets"):
        return None
    return "/".join(parts), "model" if kind == "models" else "dataset"


def display_name(path: Path) -> str:
    """A short name for a folder: the repository's, or the folder's own."""
    repository = repository_of(path)
    return repository[0].partition("/")[2] if repository else path.name


def hub_errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub and datasets raise where the hub refuses, is not reached, or sends what cannot be read."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of the client that it is built on

    return HTTPError, OSError, RuntimeError, ValueError


def _cache() -> Path:
    """The hub's cache, by the rules of huggingface_hub, which is slow to import."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
