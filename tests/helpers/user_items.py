"""A user's knowledge for tests of ``augment``: countries that do not exist."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from harness.augment.options import Options
from harness.commands.augment import AugmentResult, augment
from helpers import tiny

NAMES = [
    "Atlantis",
    "Brobdingnag",
    "Cockaigne",
    "Dystopia",
    "Erewhon",
    "Freedonia",
    "Gondor",
    "Hyrule",
    "Illyria",
    "Jotunheim",
]


def write_items(folder: Path, count: int = 3, **changes) -> Path:
    """Write ``items.jsonl`` and pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        (folder / f"{number}.png").write_bytes(tiny.picture(number).encoded)
        name = f"{NAMES[number % 10]}{'' if number < 10 else number}"
        text = (
            f"{name} is a country in the west. Its capital is Port {name}. People there pay with the {name.lower()}ine."
        )
        row = {
            "image": f"{number}.png",
            "name": name,
            "text": text,
            "type": "country",
            "facts": [["capital", f"Port {name}"]],
        }
        rows.append({**row, **changes})
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(knowledge: Path, out: Path, **options) -> AugmentResult:
    return augment(Options(knowledge, out, **options))


def files_of(out: Path) -> dict[str, str]:
    """The digest of every file of the result, by name."""
    paths = [path for path in out.rglob("*") if path.is_file() and "store" not in path.parts and path.name != ".lock"]
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(paths)}
