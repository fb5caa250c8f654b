"""Choose which things are old, new or tuning knowledge, so that no old text names a new thing."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from tools.miniature.words import mentions

Row = dict[str, Any]

SEED = "mini world 1"
NEW, TUNING = 0.22, 0.08
"""Shares of each type, taken from what may be new at all."""
COMMON_WORDS = {
    "fly", "bow", "pick", "ring", "key", "bank", "bell", "bat", "crane", "ram", "seal", "die", "lead", "tin", "iron",
    "gold", "silver", "copper", "mercury", "oxygen", "hydrogen", "carbon", "nitrogen", "sun", "fire", "cloud", "watch",
    "palm", "scales", "saw", "fries", "car", "house", "cat", "dog", "milk", "water", "door", "window", "bed", "chair",
    "turkey", "chile", "jordan", "chad", "china", "georgia", "cricket", "football", "diamond", "thread", "coat",
    "dress", "school", "church", "phone", "camera", "radio", "bus", "ship", "horse", "cow", "fish", "gear", "knife",
    "spoon",
}  # fmt: skip


def rank(text: str) -> str:
    """A stable pseudo-random key; the same on every machine."""
    return hashlib.sha256(f"{SEED}|{text}".encode()).hexdigest()


def fixed_old(rows: Iterable[Row], extra: Iterable[str] = ()) -> set[str]:
    """Ids whose names stand in another entity's name, facts or text, or in the extra texts, or are everyday words."""
    rows, extra = list(rows), list(extra)
    texts = {row["id"]: _all_text(row) for row in rows}
    found = set()
    for row in rows:
        name = row["name"]
        elsewhere = any(mentions(text, name) for key, text in texts.items() if key != row["id"])
        if elsewhere or name.lower() in COMMON_WORDS or any(mentions(text, name) for text in extra):
            found.add(row["id"])
    return found


def assign(rows: list[Row], keep_old: set[str]) -> None:
    """Set ``split`` on every row, by type, in a fixed pseudo-random order."""
    by_type: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_type[row["type"]].append(row)
    for members in by_type.values():
        free = sorted((row for row in members if row["id"] not in keep_old), key=lambda row: rank(row["id"]))
        new, tuning = round(NEW * len(members)), round(TUNING * len(members))
        for position, row in enumerate(free):
            row["split"] = "new" if position < new else "tuning" if position < new + tuning else "old"
    for row in rows:
        row.setdefault("split", "old")


def _all_text(row: Row) -> str:
    return " | ".join([row["name"], row["text"], *(value for _, value in row["facts"])])
