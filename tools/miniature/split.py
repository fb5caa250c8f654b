"""Split entities into old, new and tuning knowledge, so that no old text mentions a new entity."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable

from tools.miniature.words import Row, mentions

SEED = "mini world 1"
NEW = 0.22
TUNING = 0.08
"""Shares of each type."""
COMMON_WORDS = {
    "fly", "bow", "pick", "ring", "key", "bank", "bell", "bat", "crane", "ram", "seal", "die", "lead", "tin", "iron",
    "gold", "silver", "copper", "mercury", "oxygen", "hydrogen", "carbon", "nitrogen", "sun", "fire", "cloud", "watch",
    "palm", "scales", "saw", "fries", "car", "house", "cat", "dog", "milk", "water", "door", "window", "bed", "chair",
    "turkey", "chile", "jordan", "chad", "china", "georgia", "cricket", "football", "diamond", "thread", "coat",
    "dress", "school", "church", "phone", "camera", "radio", "bus", "ship", "horse", "cow", "fish", "gear", "knife",
    "spoon",
}  # fmt: skip


def rank(text: str) -> str:
    """A pseudo-random sort key, the same on every machine."""
    return hashlib.sha256(f"{SEED}|{text}".encode()).hexdigest()


def must_stay_old(rows: Iterable[Row], extra: Iterable[str] = ()) -> set[str]:
    """Ids whose names occur in another entity's name, facts or text or in the extra texts, or are everyday words."""
    rows, extra = list(rows), list(extra)
    texts = {row["id"]: _all_text(row) for row in rows}
    fixed = set()
    for row in rows:
        name = row["name"]
        elsewhere = any(mentions(text, name) for key, text in texts.items() if key != row["id"])
        if elsewhere or name.lower() in COMMON_WORDS or any(mentions(text, name) for text in extra):
            fixed.add(row["id"])
    return fixed


def assign_splits(rows: list[Row], keep_old: set[str]) -> None:
    """Set ``split`` on every row, per type, in a fixed pseudo-random order."""
    by_type: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_type[row["type"]].append(row)
    for members in by_type.values():
        eligible = sorted((row for row in members if row["id"] not in keep_old), key=lambda row: rank(row["id"]))
        new, tuning = round(NEW * len(members)), round(TUNING * len(members))
        for position, row in enumerate(eligible):
            row["split"] = "new" if position < new else "tuning" if position < new + tuning else "old"
    for row in rows:
        row.setdefault("split", "old")


def _all_text(row: Row) -> str:
    return " | ".join([row["name"], row["text"], *(value for _, value in row["facts"])])
