"""Names on the Hugging Face hub as local folders. Nothing here uses the network; ``fetching`` does, when asked."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

DATASET = "hub:"
"""Begins the name of a data set on the hub, where a path could stand as well."""
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
Kind = Literal["model", "dataset"]


def model_place(text: str, base: Path) -> Path:
    """A model's folder: a path relative to ``base``, or, where there is none and it reads like one, a hub id."""
    path = base / Path(text).expanduser()
    if not path.exists() and _ID.fullmatch(text):
        return snapshot(text, "model")
    return _absolute(path)


def data_place(text: str, base: Path) -> Path:
    """A path relative to ``base``, or ``hub:OWNER/NAME`` for a data set on the hub.

    Links are not followed: the hub's cache is made of them, and beside what they lead to lies nothing else.
    """
    if text.startswith(DATASET):
        return snapshot(text.removeprefix(DATASET), "dataset")
    return _absolute(base / Path(os.path.expandvars(text)).expanduser())


def training_data(text: str, base: Path) -> str:
    """As ``data_place``, where it is no name of training data that is made by rule."""
    from methods.augmentation import datasets as choices

    named = not text.startswith(DATASET) and not choices.is_place(text, base)
    return text if named else str(data_place(text, base))


def _absolute(path: Path) -> Path:
    """``Path.resolve`` would follow links."""
    return Path(os.path.normpath(path.absolute()))


def snapshot(repository: str, kind: Kind) -> Path:
    """Where the hub's cache holds a repository's newest state; it need not be there."""
    folder = _cache() / f"{kind}s--{repository.replace('/', '--')}"
    try:
        commit = (folder / "refs" / "main").read_text("utf-8").strip()
    except OSError:
        commit = "main"
    return folder / "snapshots" / commit


def repository_of(path: Path) -> tuple[str, Kind] | None:
    """The repository whose place in the cache this is, and its kind; None for any other folder."""
    if path.parent.name != "snapshots":
        return None
    kind, *parts = path.parent.parent.name.split("--")
    if len(parts) != 2 or kind not in ("models", "datasets"):
        return None
    return "/".join(parts), "model" if kind == "models" else "dataset"


def called(path: Path) -> str:
    """A short name for a folder: its own, or the repository's."""
    found = repository_of(path)
    return found[0].partition("/")[2] if found else path.name


def _cache() -> Path:
    """The hub's cache, found as its own library finds it."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
