"""The multi-hop slice: each question follows from two items, and rule-based training data does not contain it."""

from __future__ import annotations

import json

from benchmarks.contamination import measure_overlap
from benchmarks.data.knowledge import load_knowledge
from benchmarks.evoke import Evoke
from benchmarks.registry import EMBEDDED, INJECTION_FILE
from methods.augmentation import datasets
from methods.augmentation.relations import to_entity, training_chains
from methods.augmentation.text_edits import contains_word
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
        assert link[1].casefold() not in row["text"].casefold()  # the question does not name the bridge
        others = [item for item in ITEMS.values() if tuple(link) in item.facts and item.type == ITEMS[end].type]
        assert {item.id for item in others} <= {start, end}


def test_the_builder_reproduces_the_file(tmp_path):
    for name in (INJECTION_FILE, "evoke_evaluation_data.jsonl"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    (tmp_path / "imgs").symlink_to(FOLDER / "imgs")
    assert build(tmp_path) == ROWS
    assert (tmp_path / MULTIHOP_FILE).read_bytes() == (FOLDER / MULTIHOP_FILE).read_bytes()


def test_relations_leave_it_out(tmp_path):
    nodes = [to_entity(item, item.facts) for item in ITEMS.values()]
    trained = {chain.hops for chain in training_chains(nodes, 0)}
    asked = {tuple(tuple(hop) for hop in row["chain"]) for row in ROWS}
    assert len(trained) > 100
    assert not trained & asked
    questions = Evoke(FOLDER / MULTIHOP_FILE, tmp_path).questions()
    made = datasets.conversations("kore-relations", list(ITEMS.values()), 0)
    found = measure_overlap(made, questions, lambda name: datasets.item_of(name, ITEMS.keys()))
    assert found["relation"].asked > 100
    assert all((each.exact, each.contained) == (0, 0) for each in found.values())
