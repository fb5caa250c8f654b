"""Questions about the new knowledge that a row was trained on, with their answers: such a row is not ranked."""

from __future__ import annotations

from benchmarks.contamination import count_contained
from harness.experiment.cell import Cell
from harness.experiment.context import RunContext
from harness.experiment.method_files import core_digest
from harness.experiment.resources import make_resources
from harness.experiment.stages import cached_stages, list_stages
from harness.storage.digests import digest, knowledge_digest
from methods.augmentation.datasets import item_of

LEAKS = "leaks"
"""The kind of entry with the number of leaked questions."""


def count_leaked(context: RunContext, cell: Cell) -> int:
    """Count the questions about the new knowledge that are in the training data of any stage, with the reference.

    If questions and items have the same ids, as in EVOKE, only questions about the sample's own item count, because two
    items may have the same question. Of samples that belong to no item, such as old ones, only questions count that the
    evaluation asks about a single item.
    """
    if cell.settings is None or not cell.make().trains:
        return 0
    tasks = [task for task in context.inputs.tasks if task.asks_new_knowledge]
    questions = [question for task in tasks for question in task.questions]
    stages = list_stages(context, cell)
    key = {
        "training": digest(cell.training_key(context.cache_inputs)),
        "stages": [knowledge_digest(stage.knowledge) for stage in stages],
        "asked": digest([[question.id, question.turns[-1], question.reference] for question in questions]),
        "code": core_digest("experiment/leaks.py"),
    }
    count = context.store.read_json(LEAKS, key)
    if count is None:
        trained = cached_stages(context, cell)  # with what each stage passes on, if they are stored
        samples = [
            sample
            for stage in (trained if len(trained) == len(stages) else stages)
            for sample in cell.make().training_data(stage.knowledge, make_resources(context, stage))
        ]
        ids = frozenset(item.id for item in context.inputs.knowledge)
        count = context.store.write_json(
            LEAKS, key, count_contained(samples, questions, lambda sample: item_of(sample, ids))
        )
    return int(count)
