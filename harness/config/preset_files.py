"""Find the file of a preset, and those that it extends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.errors import UserError
from harness.config.overrides import read_yaml, unknown_name
from harness.presets import FOLDER, preset_names

EXTENDS = "extends"
"""What a preset's file calls the preset whose settings it changes."""
SUFFIXES = (".yaml", ".yml")


def read_preset(preset: str) -> list[tuple[Path, dict[str, Any]]]:
    """The file of a preset and the settings in it; before it those of the preset that it ``extends``, and so on.

    Args:
        preset: A name of ``preset_names`` or the path of a YAML file.

    Raises:
        UserError: A preset is unknown, a file cannot be read, or it extends itself.
    """
    path = _find_preset(preset, Path.cwd(), "--preset")
    read: list[tuple[Path, dict[str, Any]]] = []
    while path not in [earlier for earlier, _ in read]:
        content = read_yaml(path)
        base = content.pop(EXTENDS, None)
        read.append((path, content))
        if base is None:
            return read[::-1]
        where = f"{EXTENDS} in {path}"
        if not isinstance(base, str):
            raise UserError(f"{base!r} is no preset", location=where, hint=f"write {EXTENDS}: mini")
        path = _find_preset(base, path.parent, where)
    message = f"this preset extends itself, by way of {path}" if len(read) > 1 else "this preset extends itself"
    raise UserError(message, location=f"{EXTENDS} in {read[-1][0]}", hint=f"delete the line {EXTENDS}")


def _find_preset(preset: str, folder: Path, where: str) -> Path:
    if preset.endswith(SUFFIXES):
        return (folder / Path(preset).expanduser()).resolve()
    if preset not in preset_names():
        raise unknown_name("preset", preset, preset_names(), where=where)
    return FOLDER / f"{preset}.yaml"
