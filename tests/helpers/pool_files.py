"""A file of a pool's samples."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from helpers import synthetic


def write_pool(folder: Path, counts: Mapping[str, int], first: int = 0) -> Path:
    """A JSON with that many samples of each source, one source after the other."""
    (folder / "imgs").mkdir(parents=True, exist_ok=True)
    rows = []
    for source, count in counts.items():
        for _ in range(count):
            number = first + len(rows)
            (folder / "imgs" / f"{number}.png").write_bytes(base64.b64decode(synthetic.png(number)))
            turns = [{"from": "human", "value": f"<image>\nWhat is {number}?"}, {"from": "gpt", "value": str(number)}]
            name = f"{source}/{number}" if source else number
            rows.append({"id": name, "image": f"{number}.png", "conversations": turns})
    file = folder / "pool.json"
    file.write_text(json.dumps(rows))
    return file
