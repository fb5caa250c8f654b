"""The parts that the knowledge is split into, and what identifies a stage."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import UserError
from harness.config.method_settings import ResolvedMethodSettings
from harness.data.knowledge_split import split_knowledge
from harness.experiment.cell import CacheInputs, Cell
from harness.experiment.stages import Stage, merge_records
from harness.storage.digests import digest, knowledge_digest
from helpers import tiny
from methods.registry import registered

PLAIN = "lora"
POOLS = {"calibration": "c", "replay": "r"}
CACHE_INPUTS = CacheInputs("base", "knowledge", POOLS, {"epochs": 2}, 8, "cpu", "float32")


def cell(**changes) -> Cell:
    return dataclasses.replace(
        Cell(PLAIN, "", 0, ResolvedMethodSettings(registered()[PLAIN].Settings(), {})), **changes
    )


# The parts.


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=40), st.integers(1, 12), st.integers(0, 99))
def test_parts_hold_each_item_once_and_are_balanced(types, count, seed):
    (item,) = tiny.knowledge(1)
    items = [dataclasses.replace(item, id=str(index), type=kind) for index, kind in enumerate(types)]
    if count > len(items):
        with pytest.raises(UserError, match="cannot be split"):
            split_knowledge(items, count, seed)
        return
    parts = split_knowledge(items, count, seed)
    assert parts == split_knowledge(items, count, seed)
    assert sorted(int(item.id) for part in parts for item in part) == list(range(len(items)))
    assert all([int(item.id) for item in part] == sorted(int(item.id) for item in part) for part in parts)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    for kind in set(types):
        counts = [Counter(item.type for item in part)[kind] for part in parts]
        assert max(counts) - min(counts) <= 1


def test_another_seed_deals_otherwise_and_one_part_is_everything():
    items = tiny.knowledge(20)
    assert split_knowledge(items, 4, 0) != split_knowledge(items, 4, 1)
    assert split_knowledge(items, 1, 0) == (tuple(items),)


# What identifies a stage.


def test_a_single_stage_is_known_by_what_it_was_always_known_by():
    stage = Stage(cell(), tuple(tiny.knowledge(4)))
    key = stage.training_key(CACHE_INPUTS)
    assert digest(key) == digest(cell().training_key(CACHE_INPUTS))
    assert key.keys() == {
        *("method", "settings", "code", "base", "knowledge", "pools"),
        *("training", "seed", "device", "precision", "core", "versions"),
    }
    assert stage.title == cell().title
    assert stage.seed == 0


def test_I2_a_stage_is_known_by_its_part_its_place_and_what_came_before():
    items = tuple(tiny.knowledge(4))
    record = {"adapter": "adapter", "carried": "carried"}
    previous = Stage(cell(), (), 1, 3, record=record)
    stage = Stage(cell(), items, 2, 3, previous)
    others = [
        dataclasses.replace(stage, number=3),
        dataclasses.replace(stage, count=4),
        dataclasses.replace(stage, knowledge=items[:3]),
        dataclasses.replace(stage, previous=dataclasses.replace(previous, record={**record, "adapter": "other"})),
        dataclasses.replace(stage, previous=dataclasses.replace(previous, record={**record, "carried": ""})),
        dataclasses.replace(stage, cell=cell(seed=1)),
        Stage(cell(), items),
    ]
    keys = {digest(each.training_key(CACHE_INPUTS)) for each in (stage, *others)}
    assert len(keys) == len(others) + 1
    assert stage.training_key(CACHE_INPUTS)["knowledge"] == knowledge_digest(items)
    same = dataclasses.replace(stage, previous=dataclasses.replace(previous, cell=cell(seed=5), knowledge=items))
    assert digest(same.training_key(CACHE_INPUTS)) == digest(stage.training_key(CACHE_INPUTS))


def test_each_stage_draws_other_numbers():
    seeds = [Stage(cell(seed=seed), (), number, 12).seed for seed in (0, 1) for number in range(1, 13)]
    assert seeds[0] == 0
    assert seeds[12] == 1
    assert len(set(seeds)) == 24
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_records_of_the_stages_become_one():
    cost = {"training_seconds": 2.0, "peak_memory_bytes": 5, "trainable_parameters": 7, "optimiser_steps": 2}
    first = {"status": "ok", "adapter": "a", "conversations": 3, "log": [[0, 2.0], [1, 1.5]], "cost": cost}
    second = {**first, "adapter": "b", "conversations": 4, "cost": {**cost, "peak_memory_bytes": 9}}
    merged = merge_records([first, second])
    assert merged["adapter"] == "b"
    assert merged["conversations"] == 7
    assert merged["log"] == [[0, 2.0], [1, 1.5], [2, 2.0], [3, 1.5]]
    assert merged["cost"] == {**cost, "training_seconds": 4.0, "peak_memory_bytes": 9, "optimiser_steps": 4}
    assert merge_records([first]) == first
