"""Data sets of a task sequence, made of the rows of another data set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.registry import EVOKE_FILE, INJECTION_FILE
from helpers import small_runs


def write_stage(source: Path, folder: Path, rows: Iterable[int]) -> Path:
    """Write these rows of a data set, with the pictures of all, as one of its own; returns its folder."""
    shutil.copytree(source, folder)
    items = json.loads((source / INJECTION_FILE).read_text())
    questions = (source / EVOKE_FILE).read_text().splitlines()
    rows = sorted(rows)
    (folder / INJECTION_FILE).write_text(json.dumps([items[row] for row in rows], indent=1))
    (folder / EVOKE_FILE).write_text("".join(questions[row] + "\n" for row in rows))
    return folder


def write_sequence(folder: Path, model: Path, parts: Mapping[str, Iterable[int]], items: int = 8) -> Path:
    """Write ``small.yaml`` over all items, and beside it ``sequence.yaml`` with these parts; returns the latter."""
    whole = small_runs.write_preset(folder, model, items=items)
    for name, rows in parts.items():
        write_stage(folder / "data", folder / name, rows)
    stages = "".join(f"  - {{knowledge: {name}}}\n" for name in parts)
    preset = folder / "sequence.yaml"
    preset.write_text(whole.read_text().replace("knowledge: data, ", "") + f"stages:\n{stages}")
    return preset
