"""The presets that come with the package, one YAML file each."""

from __future__ import annotations

from itertools import takewhile
from pathlib import Path

FOLDER = Path(__file__).parent


def preset_names() -> list[str]:
    """Names of the presets."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def preset_about(name: str) -> str:
    """The comment at the top of a preset's file."""
    lines = (FOLDER / f"{name}.yaml").read_text("utf-8").splitlines()
    return " ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines))
