"""Read definitions from WordNet's own noun files."""

from __future__ import annotations

import re
from pathlib import Path

LEXICAL_FILES = {
    "animal": (5,),
    "plant": (20,),
    "fruit": (13,),
    "vegetable": (13,),
    "dish": (13,),
    "sweet": (13,),
    "drink": (13,),
    "natural feature": (17, 19, 27),
}
"""Concept type -> lexicographer files that may contain its sense; artefacts (6) for all others."""


def tidy(definition: str) -> str:
    """The definition without examples and brackets, cut at a semicolon to 26 words."""
    definition = re.sub(r"\([^)]*\)|[;:] \".*|`|'(?=\s)", " ", definition)
    clauses = [clause.strip() for clause in definition.split(";")]
    while len(clauses) > 1 and sum(len(clause.split()) for clause in clauses) > 26:
        clauses.pop()
    return re.sub(r"\s+", " ", "; ".join(clause for clause in clauses if clause)).replace(" ,", ",").strip()


class WordNet:
    """The noun part of WordNet 3.0."""

    def __init__(self, folder: Path) -> None:
        files = folder / "usr" / "share" / "wordnet"
        self.data = (files / "data.noun").read_bytes()
        self.offsets: dict[str, list[int]] = {}
        for line in (files / "index.noun").read_text("utf-8").splitlines():
            if not line.startswith(" "):
                parts = line.split()
                self.offsets[parts[0]] = [int(offset) for offset in parts[-int(parts[2]) :]]

    def gloss(self, name: str, concept_type: str) -> str | None:
        """The definition of the first sense in the type's lexicographer files, or None."""
        for offset in self.offsets.get(name.lower().replace(" ", "_"), []):
            line = self.data[offset : self.data.index(b"\n", offset)].decode()
            if int(line.split()[1]) in LEXICAL_FILES.get(concept_type, (6,)):
                return tidy(line.partition("| ")[2])
        return None
