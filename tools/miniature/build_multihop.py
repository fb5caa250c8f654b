"""Build the multi-hop slice of mini-EVOKE: ``python -m tools.miniature.build_multihop [--folder DIR]``.

Each question needs two new items: the picture shows the first, a shared fact leads to the second, and a fact of the
second is asked for. Only chains that training data made from relations leaves out are used, and only if no other entity
of the miniature's world, old or new, has the linking fact. The wordings do not occur in training data.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.contamination import normalize_text
from benchmarks.data.knowledge import load_knowledge
from benchmarks.mini.prompts import SHORT
from benchmarks.mini.world import load_world
from benchmarks.multihop import HopEntity, TwoHopChain, find_chains
from benchmarks.registry import EMBEDDED, EVOKE_FILE, INJECTION_FILE

MULTIHOP_FILE = "evoke_multihop_evaluation_data.jsonl"
PER_START = 3
"""Maximum questions per picture."""
GUESSABLE = frozenset({"year", "coast", "continent", "country", "population"})
"""Fields that are not asked for because they can be guessed."""
ALIKE = "The {start} shown here shares its {link} with one other {end}. Tell the {field} of that other {end}."
UNLIKE = "The {start} news shown here and one {end} news have the same {link}. Tell the {field} in that {end} news."


def build(folder: Path = EMBEDDED / "evoke") -> list[dict[str, Any]]:
    """Write the slice and return its rows."""
    rows = list(_rows(folder))
    (folder / MULTIHOP_FILE).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return rows


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    items = load_knowledge(folder / INJECTION_FILE)
    evaluation = [json.loads(line) for line in (folder / EVOKE_FILE).read_text("utf-8").splitlines()]
    texts = {item.id: item.text for item in items}
    pictures = {str(row["question_id"]): row for row in evaluation}
    number = 0
    by_start: Counter[str] = Counter()
    old = _old_facts()
    for chain in _ordered(find_chains(HopEntity(item.id, item.name, item.type, item.facts) for item in items)):
        picture = pictures[chain.start.id]
        if not chain.reserved or not _is_answerable(chain, old) or by_start[chain.start.id] == PER_START:
            continue
        answer, start_text = normalize_text(chain.fact[1]), normalize_text(texts[chain.start.id])
        if f" {answer} " in f" {start_text} ":  # one hop would be enough
            continue
        by_start[chain.start.id] += 1
        number += 1
        wording = UNLIKE if picture["cnn_wiki_type"] == "news" else ALIKE
        question = wording.format(start=chain.start.type, end=chain.end.type, link=chain.link[0], field=chain.fact[0])
        yield {
            "question_id": f"hop-{number}",
            "image": picture["image"],
            "text": question + SHORT,
            "answer": chain.fact[1],
            "type": f"{chain.start.type} to {chain.end.type}",
            "cnn_wiki_type": picture["cnn_wiki_type"],
            "chain": [list(hop) for hop in chain.hops],
        }


def _is_answerable(chain: TwoHopChain, old: frozenset[tuple[str, str]]) -> bool:
    """Whether only the two items share the linking fact, and the answer cannot be guessed."""
    news_alike = chain.link[0] == "country" and chain.start.type != chain.end.type
    unique = (chain.link[0], chain.link[1].casefold()) not in old
    return chain.fact[0] not in GUESSABLE and (news_alike or (unique and chain.link[0] != "year"))


def _old_facts() -> frozenset[tuple[str, str]]:
    return frozenset((field, value.casefold()) for entity in load_world().old() for field, value in entity.facts)


def _ordered(chains: Iterable[TwoHopChain]) -> list[TwoHopChain]:
    """Order chains by start, and for each start independently of the order of its facts."""
    return sorted(chains, key=lambda chain: (int(chain.start.id), hashlib.sha256(repr(chain.hops).encode()).digest()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=EMBEDDED / "evoke", help="folder of mini-EVOKE")
    print(f"{len(build(parser.parse_args().folder))} questions")
