"""The multi-hop slice: what it asks follows from two items, and no training data made by rule holds it."""

from __future__ import annotations

import json

from benchmarks.contamination import overlap
from benchmarks.data.knowledge import load_knowledge
from benchmarks.evoke import Evoke
from benchmarks.registry import EMBEDDED, INJECTION_FILE
from methods.augmentation import datasets as choices
from methods.augmentation.relations import node_of, trained_chains
from methods.augmentation.text import contains_word
from tools.miniature.build_multihop import MULTIHOP_FILE, build

FOLDER = EMBEDDED / "evoke"
ROWS = [json.loads(line) for line in (FOLDER / MULTIHOP_FILE).read_text("utf-8").splitlines()]
ITEMS = {item.id: item for item in load_knowledge(FOLDER / INJECTION_FILE)}


def test_every_answer_follows_from_its_chain_and_not_from_the_item_shown():
    assert len(ROWS) >= 40
    for row in ROWS:
        (start, *link), (end, *fact) = row["chain"]
        assert start != end
        assert tuple(link) in ITEMS[start].facts
        assert tuple(link) in ITEMS[end].facts or link[1] == ITEMS[end].name
        assert tuple(fact) in ITEMS[end].facts
        assert row["answer"] == fact[1]
        assert row["image"].endswith(f"evaluation/evoke_{int(start):03d}.png")
        assert not contains_word(ITEMS[start].text, row["answer"])
        assert link[1].casefold() not in row["text"].casefold()  # the bridge is not told
        others = [item for item in ITEMS.values() if tuple(link) in item.facts and item.type == ITEMS[end].type]
        assert {item.id for item in others} <= {start, end}


def test_it_is_built_as_it_lies_there(tmp_path):
    for name in (INJECTION_FILE, "evoke_evaluation_data.jsonl"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    (tmp_path / "imgs").symlink_to(FOLDER / "imgs")
    assert build(tmp_path) == ROWS
    assert (tmp_path / MULTIHOP_FILE).read_bytes() == (FOLDER / MULTIHOP_FILE).read_bytes()


def test_relations_leave_it_out(tmp_path):
    nodes = [node_of(item, item.facts) for item in ITEMS.values()]
    trained = {chain.hops for chain in trained_chains(nodes, 0)}
    asked = {tuple(tuple(hop) for hop in row["chain"]) for row in ROWS}
    assert len(trained) > 100
    assert not trained & asked
    questions = Evoke(FOLDER / MULTIHOP_FILE, tmp_path).questions()
    made = choices.conversations("kore-relations", list(ITEMS.values()), 0)
    found = overlap(made, questions, lambda name: choices.item_of(name, ITEMS.keys()))
    assert found["relation"].asked > 100
    assert all((each.exact, each.contained) == (0, 0) for each in found.values())
