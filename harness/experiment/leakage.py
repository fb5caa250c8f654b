"""Does a cell's training data hold the questions that it is asked later? Then its score is shown and never ranked."""

from __future__ import annotations

from benchmarks.contamination import contained
from benchmarks.registry import ADAPTATION, get_benchmark
from harness.experiment.cell import Cell
from harness.experiment.context import RunContext
from harness.experiment.stages import Stage
from harness.experiment.train import cell_resources
from harness.storage.store import digest
from methods.augmentation.datasets import item_of

LEAKS = "leaks"
"""The kind of entry that keeps the count."""


def count_leaked(context: RunContext, cell: Cell) -> int:
    """How many questions about the new knowledge stand in the cell's training data with their references as answers.

    It is counted once for each training and evaluation. Where questions and items have the same ids, as in EVOKE, only
    a question about its own item counts: two items may well be asked the same in the same words. Of samples that belong
    to no item, such as old ones, only questions count that the evaluation asks about one item alone.
    """
    if cell.settings is None:
        return 0
    asked = [each for each in context.sources.asked if get_benchmark(each.name).dimension == ADAPTATION]
    gold = [[question.id, question.turns[-1], question.reference] for each in asked for question in each.questions]
    recipe = {"training": digest(cell.training_recipe(context.cache_inputs)), "asked": digest(gold)}
    found = context.store.read_json(LEAKS, recipe)
    if found is None:
        knowledge = context.sources.knowledge
        made = cell.make().training_data(knowledge, cell_resources(context, Stage(cell, knowledge)))
        ids = frozenset(item.id for item in knowledge)
        questions = [question for each in asked for question in each.questions]
        number = contained(made, questions, lambda conversation: item_of(conversation, ids))
        found = context.store.write_json(LEAKS, recipe, number)
    return int(found)
