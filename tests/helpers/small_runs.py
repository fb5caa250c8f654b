"""A whole run with a random model of a few thousand parameters, eight new items and ten questions."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.registry import EVOKE_FILE, INJECTION_FILE
from helpers import tiny

PRESET = """\
model: {model}
data: {{knowledge: data, retention: {retention}, old: {old}}}
benchmarks: [{benchmarks}]
training: {{epochs: 2, batch_size: 4, micro_batch: 4, save_every: 0}}
answering: {{{answering}}}
device: cpu
precision: float32
methods:
  "*": {{rank: 4, learning_rate: 1.0e-2}}
  kore: {{calibration_samples: 8}}
"""


def write_preset(
    folder: Path,
    model: Path,
    *,
    items: int = 8,
    old: str = "none",
    benchmarks: str = "mini-EVOKE",
    retention: str = "data",
    answering: str = "batch_size: 3",
) -> Path:
    """Write data and a preset into ``folder``; returns the preset's file."""
    write_evoke(folder / "data", items)
    preset = folder / "small.yaml"
    preset.write_text(
        PRESET.format(model=model, old=old, benchmarks=benchmarks, retention=retention, answering=answering)
    )
    return preset


def write_evoke(folder: Path, items: int) -> None:
    """Knowledge and questions in EVOKE's formats."""
    folder.mkdir(parents=True)
    injected, asked = [], []
    for number, item in enumerate(tiny.knowledge(items)):
        (folder / f"{number}.png").write_bytes(item.picture.encoded)
        (folder / f"{number}-other.png").write_bytes(tiny.picture(1000 + number).encoded)
        kind = {"cnn_wiki_type": "wiki" if item.group == "entity" else "news", "type": item.type}
        turns = [{"from": "human", "value": f"<image>\n{item.prompt}"}, {"from": "gpt", "value": item.text}]
        facts = [list(pair) for pair in item.facts]
        injected.append(
            {"id": item.id, "image": f"{number}.png", "conversations": turns, "name": item.name, "facts": facts, **kind}
        )
        text = "How many stripes has the thing in the picture? Answer with a single word."
        asked.append(
            {"question_id": number, "image": f"{number}-other.png", "text": text, "answer": f"{number} stripes", **kind}
        )
    (folder / INJECTION_FILE).write_text(json.dumps(injected, indent=1))
    (folder / EVOKE_FILE).write_text("".join(json.dumps(row) + "\n" for row in asked))
