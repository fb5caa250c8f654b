"""What differs between the folder of a command that was killed and that of an undisturbed one."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from harness.storage.files import PARTIAL

LEFT_OUT = ("*.lock", "*store/damaged/*", "*store/scratch/*", "store/pretraining/*")
"""Files that are not part of a result. The last are the checkpoints of a pre-training, which are kept after it."""
TIMES = ("cost", "seconds")
"""Fields of JSON files that say how long something took."""
TIMED = ("*results.json", "*store/training/*.json", "*training_log.json")
"""JSON files with such fields."""
NAME_ONLY = ("*store/seconds/*", "*store/training/*.manifest", "report/costs.*", "report/plots/*", "report/*.html")
"""Files made of such times, of which only the name is compared."""


def differences(whole: Path, killed: Path) -> list[str]:
    """The files that differ, with how they do."""
    expected, found = _files(whole), _files(killed)
    missing = [f"{name} is missing" for name in expected.keys() - found.keys()]
    left = [f"{name} is left over" for name in found.keys() - expected.keys()]
    common = expected.keys() & found.keys()
    changed = [f"{name} differs" for name in common if _content(name, expected[name]) != _content(name, found[name])]
    return sorted([*missing, *left, *changed])


def damaged_entries(folder: Path) -> int:
    """The number of stored entries that were found damaged and set aside."""
    return sum(1 for _ in folder.rglob("store/damaged/*"))


def _files(folder: Path) -> dict[str, Path]:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: path
        for name, path in files.items()
        if name.endswith(PARTIAL) or not any(fnmatch(name, pattern) for pattern in LEFT_OUT)
    }


def _content(name: str, path: Path) -> Any:
    if any(fnmatch(name, pattern) for pattern in NAME_ONLY):
        return None
    content = path.read_bytes()
    if any(fnmatch(name, pattern) for pattern in TIMED):
        try:
            return _without_times(json.loads(content))
        except ValueError:
            return content
    return content


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(each) for name, each in value.items() if name not in TIMES}
    return [_without_times(each) for each in value] if isinstance(value, list) else value
