"""One cell from its knowledge to its answers. Whatever goes wrong with it does not stop the others."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from benchmarks.errors import UserError, first_line
from harness.data.inputs import BenchmarkTask
from harness.distributed.failures import is_shared
from harness.distributed.process_group import MainProcessMovedOn
from harness.experiment.answer import get_answers
from harness.experiment.cell import ANSWERS, Cell
from harness.experiment.context import RunContext
from harness.experiment.leakage import count_leaked
from harness.experiment.products import CellOutput
from harness.experiment.stage_runner import cached_stages, run_stages, stages_of, tasks_after
from harness.experiment.stages import Record, merge_records
from harness.storage.store import StorageError, digest


def run_cell(context: RunContext, cell: Cell) -> CellOutput:
    """Train and answer one cell. Whatever goes wrong with it is recorded and does not stop the others.

    Raises:
        StorageError: The disk refuses; no other cell would fare better.
        Called: The process that leads this one has gone on to something else.
    """
    product = CellOutput(cell)
    try:
        _run(context, cell, product)
    except (StorageError, MainProcessMovedOn):
        raise
    except Exception as error:  # the cells to come must not suffer for this one
        if context.process_group.world_size > 1 and not is_shared(error):
            raise  # the other processes wait for this one in vain; its end is seen by whoever launched them
        from harness.training.memory import is_out_of_memory

        short = is_out_of_memory(error)
        product.status = "oom" if short else "failed"
        product.reason = first_line(error)
        if not isinstance(error, UserError):
            product.reason = f"{type(error).__name__}: {product.reason}"
            product.trace = "" if short else traceback.format_exc()
        product.answers.clear()
        product.stages.clear()
        context.unload_model()
        context.say(f"{cell.title}: {product.status}: {product.reason}")
    return product


def _run(context: RunContext, cell: Cell, product: CellOutput) -> None:
    adapter, last = "", None
    if cell.settings is not None:
        records: list[Record] = []
        for last, record, stage in run_stages(context, cell):
            records.append(record)
            product.training, product.training_key = merge_records(records), digest(last.recipe(context.cache_inputs))
            if stage is not None:
                product.stages.append(stage)
                product.answering_seconds += stage.seconds
        if product.training["status"] != "ok":
            product.status, product.reason = product.training["status"], product.training["reason"]
            context.say(f"{last.title if last else cell.title}: {product.status}: {product.reason}")
            return
        adapter = product.training["adapter"]
        product.leaks = context.process_group.broadcast_from_main(lambda: count_leaked(context, cell))
        if product.leaks:
            context.say(f"{cell.title}: its training data holds {product.leaks} evaluation questions; never ranked")
    product.signature = digest([cell.identity(), adapter])[:16]
    found = get_answers(context, cell, last, adapter, context.sources.asked)
    product.answers = {name: one.answers for name, one in found.items()}
    product.answer_keys = {name: one.key for name, one in found.items()}
    product.answering_seconds += sum(one.seconds for one in found.values())


def is_complete(context: RunContext, cell: Cell) -> bool:
    """Whether all that the cell needs is there: then ``run_cell`` loads no model, unless it finds something damaged."""
    if cell.settings is None:
        return _answered(context, cell, "", context.sources.asked)
    found = cached_stages(context, cell)
    if found and found[-1][1]["status"] != "ok":
        return True
    return len(found) == len(stages_of(context, cell)) and all(
        _answered(context, cell, record["adapter"], tasks_after(context, step)) for step, record in found
    )


def _answered(context: RunContext, cell: Cell, adapter: str, asked: Sequence[BenchmarkTask]) -> bool:
    """Whether answers are stored; nothing is read, for ``run_cell`` reads and checks them."""
    recipes = (cell.answers_recipe(context.cache_inputs, adapter, each.questions) for each in asked)
    return all(context.store.has(ANSWERS, recipe) for recipe in recipes)
