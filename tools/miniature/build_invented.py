"""Build the tuning slice of invented items: ``python -m tools.miniature.build_invented [--folder DIR]``.

As many items as mini-EVOKE has to inject, of the same kinds, so that a trial sees as many items as often, in as many
steps, as the run whose settings it looks for. None of them is real, and pre-training draws from other streams.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.mini.invented.items import InventedItem, InventedWorld
from benchmarks.mini.phrasings import NEWS, phrasing
from benchmarks.mini.tasks.scene_factory import SceneFactory
from benchmarks.mini.world import load_world
from benchmarks.registry import EMBEDDED, INJECTION_FILE
from tools.miniature.evoke import ASKED_FIELDS, Item, evaluation_row, injection_row, write_items

SEED = 984_000
"""Of the stream; those of pre-training and of its measurements are others."""
PLACES = ("country", "territory")


def build(folder: Path = EMBEDDED / "invented") -> None:
    """Write the files and their pictures."""
    shutil.rmtree(folder, ignore_errors=True)
    world = InventedWorld(SceneFactory(load_world()), SEED)
    items = [_item(world.item(index, kind)) for index, kind in enumerate(_kinds())]
    write_items(items, folder, "evoke_tuning")


def _kinds() -> list[str]:
    """The kinds of mini-EVOKE's items, as often as they occur there; things of all types are concepts."""
    rows: list[dict[str, Any]] = json.loads((EMBEDDED / "evoke" / INJECTION_FILE).read_text("utf-8"))
    kinds = Counter(kind if kind in NEWS or kind in PLACES else "concept" for kind in (row["type"] for row in rows))
    return sorted(kinds.elements())


def _item(item: InventedItem) -> Item:
    """The rows and pictures of one item, in the form of mini-EVOKE's."""
    pictures = dict(zip(("injection", "evaluation"), item.pictures, strict=False))
    if item.family == "news":
        kind, value = item.facts[0]
        (year,) = set(re.findall(r"\b20\d\d\b", item.article))
        facts: list[tuple[str, str]] = [("country", item.name), (kind, value), ("year", year)]
        record = injection_row(item.prompt, item.article, f"{kind} of {item.name}, {year}", kind, "news", facts)
        return record, evaluation_row((phrasing("country", kind).evaluation, value), kind, "news"), pictures
    known = dict(item.facts)
    field = next((each for each in ASKED_FIELDS.get(item.family, ()) if each in known), "name")
    question = phrasing(item.family, field).evaluation.format(hypernym=item.hypernym), known[field]
    facts = [fact for fact in item.facts if fact[0] != "name"]
    record = injection_row(item.prompt, item.article, item.name, item.hypernym, "wiki", facts)
    return record, evaluation_row(question, item.hypernym, "wiki"), pictures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=EMBEDDED / "invented")
    build(parser.parse_args().folder)
