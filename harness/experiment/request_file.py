"""What a run was asked for, kept in its folder: so that it can be verified later, and told apart from another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError
from harness.config.settings import Request, ResolvedSettings, Settings
from harness.experiment.context import RunContext
from harness.storage.store import atomic_write

REQUEST = "settings.json"
UNIMPORTANT = frozenset({"training.save_every", "track", "executor", "workers", "processes", "sharding"})


def write_request(context: RunContext) -> None:
    """Keep the resolved settings with their origins; say what differs from an earlier run in the same folder."""
    path, now = context.request.out / REQUEST, _plain(context.request)
    for change in _changes(path, now):
        context.say(f"other than the last run in this folder: {change}")
    atomic_write(path, json.dumps(now, indent=1, ensure_ascii=False) + "\n")


def _changes(path: Path, now: Mapping[str, Any]) -> list[str]:
    """What the last run in the folder was asked for otherwise. What those settings had no part in is reused."""
    if not path.exists():
        return []
    try:
        before = _read(path)
    except UserError as error:
        return [error.message]
    changes = differences(before["settings"], now["settings"])
    if before["methods"] != now["methods"]:
        changes.append(f"methods: {', '.join(before['methods'])} -> {', '.join(now['methods'])}")
    return changes


def read_request(folder: Path) -> Request:
    """What the last run in a folder was asked for.

    Raises:
        UserError: There was none, or its file is damaged.
    """
    content = _read(folder / REQUEST)
    settings = Settings.model_validate(content["settings"])
    return Request(tuple(content["methods"]), ResolvedSettings(content["preset"], settings, content["origins"]), folder)


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings that changed, as "key: old -> new"."""
    found = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) or isinstance(new, Mapping):
            nested = [side if isinstance(side, Mapping) else {} for side in (old, new)]
            found += differences(nested[0], nested[1], f"{prefix}{key}.")
        elif old != new and f"{prefix}{key}" not in UNIMPORTANT:
            found.append(f"{prefix}{key}: {_short(old)} -> {_short(new)}")
    return found


def _plain(request: Request) -> dict[str, Any]:
    resolved = request.resolved
    return {
        "methods": list(request.methods),
        "preset": resolved.preset,
        "settings": resolved.settings.model_dump(mode="json"),
        "origins": dict(resolved.origins),
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"what this run was asked for cannot be read ({error})", location=str(path), hint="run compare again"
        ) from error
    if not isinstance(content, dict) or not {"methods", "preset", "settings", "origins"} <= content.keys():
        raise UserError(
            "this is no record of a run's settings", location=str(path), hint="delete it and run compare again"
        )
    return content


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
