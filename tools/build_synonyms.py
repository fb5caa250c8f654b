"""Build ``synonyms.tsv`` from WordNet's own files: ``python -m tools.build_synonyms FOLDER``.

``FOLDER`` contains WordNet 3.0 (``index.noun``, ``data.noun``, ...), for example from Debian's ``wordnet-base``. The
synonyms of a common word are the other single words of its most frequent sense.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PARTS = ("noun", "verb", "adj", "adv")
MIN_COUNT = 3
"""Minimum occurrences of a word in WordNet's tagged texts."""
MAX_SYNONYMS = 4
"""Maximum synonyms of a word, the most frequent first; each must occur in the tagged texts, too."""
RUDE = re.compile(
    r"offensive|disparag|obscen|vulgar|slang|insult|derogat|contempt|buttocks|promiscuous|sexual|despicable"
)
TABLE = Path(__file__).parents[1] / "methods" / "augmentation" / "synonyms.tsv"
HEADER = "# word<TAB>synonyms. From WordNet 3.0, Copyright 2006 by Princeton University; all rights reserved.\n"


def synonyms(folder: Path) -> dict[str, list[str]]:
    """Common word -> the other words of its most frequent sense."""
    uses: dict[str, Counter[tuple[str, int]]] = {}
    for line in (folder / "cntlist.rev").read_text("utf-8").splitlines():
        sense, _, count = line.split()
        word, _, rest = sense.partition("%")
        part = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}[rest[0]]
        uses.setdefault(word, Counter())[part, int(line.split()[1])] += int(count)
    rude = {word for part in PARTS for word in _rude(folder, part)}
    uses = {word: counted for word, counted in uses.items() if word not in rude}
    first = {part: _first_senses(folder, part) for part in PARTS}
    table = {}
    for word, counted in sorted(uses.items()):
        part = max(PARTS, key=lambda name: sum(count for (kind, _), count in counted.items() if kind == name))
        others = [other for other in first[part].get(word, []) if other != word and uses.get(other, Counter()).total()]
        others = sorted(others, key=lambda other: (-uses[other].total(), other))[:MAX_SYNONYMS]
        if word.isalpha() and len(word) > 2 and counted.total() >= MIN_COUNT and others:
            table[word] = others
    return table


def _first_senses(folder: Path, part: str) -> dict[str, list[str]]:
    data = (folder / f"data.{part}").read_bytes()
    senses = {}
    for line in (folder / f"index.{part}").read_text("utf-8").splitlines():
        if not line.startswith(" "):
            fields = line.split()
            start = int(fields[-int(fields[2])])
            synset = data[start : data.index(b"\n", start)].decode().split()
            words = [synset[4 + 2 * number].partition("(")[0] for number in range(int(synset[3], 16))]
            senses[fields[0]] = [word for word in words if word.isalpha() and word.islower()]
    return senses


def _rude(folder: Path, part: str) -> Iterator[str]:
    """Words with a sense whose definition marks it as rude."""
    for line in (folder / f"data.{part}").read_text("utf-8").splitlines():
        if not line.startswith(" ") and RUDE.search(line.partition("| ")[2]):
            fields = line.split()
            yield from (fields[4 + 2 * number].lower() for number in range(int(fields[3], 16)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with WordNet's files")
    rows = synonyms(parser.parse_args().folder)
    TABLE.write_text(HEADER + "".join(f"{word}\t{' '.join(others)}\n" for word, others in rows.items()), "utf-8")
