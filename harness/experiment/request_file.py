"""The file with the methods and settings of a run, for ``verify``, worker processes and later runs in its folder.

Rows from elsewhere that are inside the run's folder, such as imported answers, are written relative to it, so that the
folder can be moved.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmarks.errors import UserError
from harness.config.schema import Settings
from harness.config.settings import Request, ResolvedSettings
from harness.config.value_errors import invalid_value
from harness.storage.files import atomic_write

logger = logging.getLogger(__name__)

REQUEST = "settings.json"
UNIMPORTANT = frozenset(
    {"training.save_every", "training.gradient_checkpointing", "track", "executor", "workers", "processes", "sharding"}
)
"""Settings whose changes are not worth a message."""


def write_request(request: Request) -> None:
    """Write the resolved settings with their origins; log what differs from the last run in the same folder."""
    path, resolved = request.out / REQUEST, request.resolved
    content = {
        "methods": list(request.methods),
        "preset": resolved.preset,
        "settings": _place_rows(resolved.settings.model_dump(mode="json"), lambda place: _inside(request.out, place)),
        "origins": dict(resolved.origins),
    }
    for change in _changes(path, content):
        logger.info("other than the last run in this folder: %s", change)
    atomic_write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_request(folder: Path) -> Request:
    """Read the request of the last run in a folder.

    Raises:
        UserError: There was none, or its file is damaged or of another version.
    """
    path = folder / REQUEST
    content = _read(path)
    try:
        settings = Settings.model_validate(
            _place_rows(content["settings"], lambda place: str(_absolute(folder) / place))
        )
    except ValidationError as error:
        raise invalid_value(error, Settings, lambda key: f"{path}: {key}") from error
    return Request(tuple(content["methods"]), ResolvedSettings(content["preset"], settings, content["origins"]), folder)


def differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings that changed, as "key: old -> new"."""
    changes = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) or isinstance(new, Mapping):
            nested = [side if isinstance(side, Mapping) else {} for side in (old, new)]
            changes += differences(nested[0], nested[1], f"{prefix}{key}.")
        elif old != new and f"{prefix}{key}" not in UNIMPORTANT:
            changes.append(f"{prefix}{key}: {_short(old)} -> {_short(new)}")
    return changes


def _place_rows(settings: Any, place: Callable[[str], str]) -> Any:
    """The settings as JSON, with another path for each row from elsewhere; unchanged where they are no settings."""
    rows = settings.get("rows") if isinstance(settings, dict) else None
    if not isinstance(rows, dict):
        return settings
    placed = {
        name: {**row, "folder": place(row["folder"])}
        if isinstance(row, dict) and isinstance(row.get("folder"), str)
        else row
        for name, row in rows.items()
    }
    return {**settings, "rows": placed}


def _inside(folder: Path, place: str) -> str:
    """A path relative to the run's folder if it is inside, or else as it is."""
    path, own = _absolute(Path(place)), _absolute(folder)
    return path.relative_to(own).as_posix() if path.is_relative_to(own) else place


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def _changes(path: Path, content: Mapping[str, Any]) -> list[str]:
    """How a request differs from the last one in the folder."""
    if not path.exists():
        return []
    try:
        last = _read(path)
    except UserError as error:
        return [error.message]
    changes = differences(last["settings"], content["settings"])
    if last["methods"] != content["methods"]:
        changes.append(f"methods: {', '.join(last['methods'])} -> {', '.join(content['methods'])}")
    return changes


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        hint = "give the folder that compare wrote to"
        raise UserError("there is no run here", location=str(path.parent), hint=hint) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"the settings of this run cannot be read ({error})", location=str(path), hint="run compare again"
        ) from error
    if not isinstance(content, dict) or not {"methods", "preset", "settings", "origins"} <= content.keys():
        raise UserError(
            "this file does not contain a run's settings", location=str(path), hint="delete it and run compare again"
        )
    return content


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
