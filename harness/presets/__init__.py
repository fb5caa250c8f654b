"""The presets that ship with the package: one YAML file each."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

FOLDER = Path(__file__).parent


def preset_names() -> list[str]:
    """Their names."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def preset_about(name: str) -> str:
    """The comment at the head of a preset."""
    text = (FOLDER / f"{name}.yaml").read_text("utf-8")
    head = takewhile(lambda line: line.startswith("#"), text.splitlines())
    return " ".join(line.lstrip("# ") for line in head)
