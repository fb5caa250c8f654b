"""Build the multi-hop slice of mini-EVOKE: ``python -m tools.miniature.build_multihop``.

Each question takes two of the new items: the picture shows the first, a fact that both have leads to the second, and a
fact of the second is asked for. Only chains are asked that training data made from relations leaves out, and only
where nothing else in the miniature's world, old or new, has the fact that links them. The wordings are none of the
training's.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.contamination import plain
from benchmarks.data.knowledge import load_knowledge
from benchmarks.multihop import HopEntity, TwoHopChain, chains
from benchmarks.registry import EMBEDDED, EVOKE_FILE, INJECTION_FILE

MULTIHOP_FILE = "evoke_multihop_evaluation_data.jsonl"
PER_START = 3
"""Most questions over one picture."""
DULL = frozenset({"year", "coast", "continent", "country", "population"})
"""Fields that are not asked for: they can be guessed."""
SUFFIX = "\nAnswer the question using a single word or phrase."
ALIKE = "The {start} shown here shares its {link} with one other {end}. Tell the {field} of that other {end}."
UNLIKE = "The {start} news shown here and one {end} news have the same {link}. Tell the {field} in that {end} news."


def build(folder: Path = EMBEDDED / "evoke") -> list[dict[str, Any]]:
    """The rows of the slice, and write them."""
    rows = list(_rows(folder))
    (folder / MULTIHOP_FILE).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return rows


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    items = load_knowledge(folder / INJECTION_FILE)
    asked = [json.loads(line) for line in (folder / EVOKE_FILE).read_text("utf-8").splitlines()]
    texts = {item.id: item.text for item in items}
    pictures = {str(row["question_id"]): row for row in asked}
    number = 0
    by_start: Counter[str] = Counter()
    old = _old_facts()
    for chain in _ordered(chains(HopEntity(item.id, item.name, item.type, item.facts) for item in items)):
        picture = pictures[chain.start.id]
        if not chain.reserved or not _fit(chain, old) or by_start[chain.start.id] == PER_START:
            continue
        if f" {plain(chain.fact[1])} " in f" {plain(texts[chain.start.id])} ":  # one hop would do
            continue
        by_start[chain.start.id] += 1
        number += 1
        wording = UNLIKE if picture["cnn_wiki_type"] == "news" else ALIKE
        told = wording.format(start=chain.start.type, end=chain.end.type, link=chain.link[0], field=chain.fact[0])
        yield {
            "question_id": f"hop-{number}",
            "image": picture["image"],
            "text": told + SUFFIX,
            "answer": chain.fact[1],
            "type": f"{chain.start.type} to {chain.end.type}",
            "cnn_wiki_type": picture["cnn_wiki_type"],
            "chain": [list(hop) for hop in chain.hops],
        }


def _fit(chain: TwoHopChain, old: frozenset[tuple[str, str]]) -> bool:
    """Whether nothing but the two items has what links them, and the answer is no guess."""
    news_alike = chain.link[0] == "country" and chain.start.type != chain.end.type
    unique = (chain.link[0], chain.link[1].casefold()) not in old
    return chain.fact[0] not in DULL and (news_alike or (unique and chain.link[0] != "year"))


def _old_facts() -> frozenset[tuple[str, str]]:
    """What the old world says."""
    from benchmarks.mini.world import load_world

    return frozenset((field, value.casefold()) for entity in load_world().old() for field, value in entity.facts)


def _ordered(found: Iterable[TwoHopChain]) -> list[TwoHopChain]:
    """By start, and for each start in an order that has nothing to do with its facts'."""
    return sorted(found, key=lambda chain: (int(chain.start.id), hashlib.sha256(repr(chain.hops).encode()).digest()))


if __name__ == "__main__":
    print(f"{len(build())} questions")
