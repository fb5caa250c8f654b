"""The parts that the knowledge is dealt into, and what each stage is made of."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.errors import UserError
from harness.config.method_settings import ResolvedMethodSettings
from harness.experiment.cell import CacheInputs, Cell
from harness.experiment.stages import PreviousStage, Stage, merge_records, split_knowledge
from harness.storage.digests import knowledge_digest
from harness.storage.store import digest
from helpers import tiny
from methods.registry import registered

PLAIN = "lora"
GROUND = CacheInputs("base", "knowledge", "old", {"epochs": 2}, 8, "cpu", "float32")


def cell(**changes) -> Cell:
    return dataclasses.replace(
        Cell(PLAIN, "", 0, ResolvedMethodSettings(registered()[PLAIN].Settings(), {})), **changes
    )


# The parts.


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=40), st.integers(1, 12), st.integers(0, 99))
def test_parts_hold_each_item_once_and_are_balanced(types, count, seed):
    (item,) = tiny.knowledge(1)
    items = [dataclasses.replace(item, id=str(index), type=kind) for index, kind in enumerate(types)]
    if count > len(items):
        with pytest.raises(UserError, match="cannot be dealt"):
            split_knowledge(items, count, seed)
        return
    dealt = split_knowledge(items, count, seed)
    assert dealt == split_knowledge(items, count, seed)
    assert sorted(int(one.id) for part in dealt for one in part) == list(range(len(items)))
    assert all([int(one.id) for one in part] == sorted(int(one.id) for one in part) for part in dealt)
    sizes = [len(part) for part in dealt]
    assert max(sizes) - min(sizes) <= 1
    for kind in set(types):
        counts = [Counter(one.type for one in part)[kind] for part in dealt]
        assert max(counts) - min(counts) <= 1


def test_another_seed_deals_otherwise_and_one_part_is_everything():
    items = tiny.knowledge(20)
    assert split_knowledge(items, 4, 0) != split_knowledge(items, 4, 1)
    assert split_knowledge(items, 1, 0) == (tuple(items),)


# What a stage is made of.


def test_a_single_stage_is_known_by_what_it_was_always_known_by():
    step = Stage(cell(), tuple(tiny.knowledge(4)))
    recipe = step.recipe(GROUND)
    assert digest(recipe) == digest(cell().training_recipe(GROUND))
    assert recipe.keys() == {
        *("method", "settings", "code", "base", "knowledge", "old_data"),
        *("training", "seed", "device", "precision", "core", "versions"),
    }
    assert step.title == cell().title
    assert step.seed == 0


def test_I2_a_stage_is_known_by_its_part_its_place_and_what_came_before():
    items = tuple(tiny.knowledge(4))
    earlier = PreviousStage({"any": "recipe"}, "adapter", "carried")
    step = Stage(cell(), items, 2, 3, earlier)
    others = [
        dataclasses.replace(step, number=3),
        dataclasses.replace(step, of=4),
        dataclasses.replace(step, knowledge=items[:3]),
        dataclasses.replace(step, earlier=dataclasses.replace(earlier, adapter="other")),
        dataclasses.replace(step, earlier=dataclasses.replace(earlier, stage_state="")),
        dataclasses.replace(step, cell=cell(seed=1)),
        Stage(cell(), items),
    ]
    keys = {digest(one.recipe(GROUND)) for one in (step, *others)}
    assert len(keys) == len(others) + 1
    assert step.recipe(GROUND)["knowledge"] == knowledge_digest(items)
    same = dataclasses.replace(step, earlier=dataclasses.replace(earlier, recipe={"another": "place"}))
    assert digest(same.recipe(GROUND)) == digest(step.recipe(GROUND))


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
    whole = merge_records([first, second])
    assert whole["adapter"] == "b"
    assert whole["conversations"] == 7
    assert whole["log"] == [[0, 2.0], [1, 1.5], [2, 2.0], [3, 1.5]]
    assert whole["cost"] == {**cost, "training_seconds": 4.0, "peak_memory_bytes": 9, "optimiser_steps": 4}
    assert merge_records([first]) == first
