"""One cell from its knowledge to its answers. Whatever goes wrong with it does not stop the others."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from benchmarks.errors import UserError, first_line
from harness.data.inputs import Asked
from harness.distributed.process_group import Called, is_known
from harness.experiment.answer import answered
from harness.experiment.cell import ANSWERS, Cell
from harness.experiment.context import Workshop
from harness.experiment.leakage import leaks
from harness.experiment.results import CellProduct
from harness.experiment.stage_runner import asked_after, steps, stored_steps, walk
from harness.experiment.stages import Record, joined
from harness.storage.store import StorageError, digest


def run_cell(workshop: Workshop, cell: Cell) -> CellProduct:
    """Train and answer one cell. Whatever goes wrong with it is recorded and does not stop the others.

    Raises:
        StorageError: The disk refuses; no other cell would fare better.
        Called: The process that leads this one has gone on to something else.
    """
    product = CellProduct(cell)
    try:
        _run(workshop, cell, product)
    except (StorageError, Called):
        raise
    except Exception as error:  # the cells to come must not suffer for this one
        if workshop.crew.count > 1 and not is_known(error):
            raise  # the other processes wait for this one in vain; its end is seen by whoever launched them
        from harness.training.memory import starved

        short = starved(error)
        product.status = "oom" if short else "failed"
        product.reason = first_line(error)
        if not isinstance(error, UserError):
            product.reason = f"{type(error).__name__}: {product.reason}"
            product.trace = "" if short else traceback.format_exc()
        product.answers.clear()
        product.stages.clear()
        workshop.drop_model()
        workshop.say(f"{cell.title}: {product.status}: {product.reason}")
    return product


def _run(workshop: Workshop, cell: Cell, product: CellProduct) -> None:
    adapter, last = "", None
    if cell.settings is not None:
        records: list[Record] = []
        for last, record, stage in walk(workshop, cell):
            records.append(record)
            product.training, product.training_key = joined(records), digest(last.recipe(workshop.ground))
            if stage is not None:
                product.stages.append(stage)
                product.answering_seconds += stage.seconds
        if product.training["status"] != "ok":
            product.status, product.reason = product.training["status"], product.training["reason"]
            workshop.say(f"{last.title if last else cell.title}: {product.status}: {product.reason}")
            return
        adapter = product.training["adapter"]
        product.leaks = workshop.crew.agreed(lambda: leaks(workshop, cell))
        if product.leaks:
            workshop.say(f"{cell.title}: its training data holds {product.leaks} evaluation questions; never ranked")
    product.signature = digest([cell.identity(), adapter])[:16]
    found = answered(workshop, cell, last, adapter, workshop.sources.asked)
    product.answers = {name: one.answers for name, one in found.items()}
    product.answer_keys = {name: one.key for name, one in found.items()}
    product.answering_seconds += sum(one.seconds for one in found.values())


def finished(workshop: Workshop, cell: Cell) -> bool:
    """Whether all that the cell needs is there: then ``run_cell`` loads no model, unless it finds something damaged."""
    if cell.settings is None:
        return _answered(workshop, cell, "", workshop.sources.asked)
    found = stored_steps(workshop, cell)
    if found and found[-1][1]["status"] != "ok":
        return True
    return len(found) == len(steps(workshop, cell)) and all(
        _answered(workshop, cell, record["adapter"], asked_after(workshop, step)) for step, record in found
    )


def _answered(workshop: Workshop, cell: Cell, adapter: str, asked: Sequence[Asked]) -> bool:
    """Whether answers are stored; nothing is read, for ``run_cell`` reads and checks them."""
    recipes = (cell.answers_recipe(workshop.ground, adapter, each.questions) for each in asked)
    return all(workshop.store.has(ANSWERS, recipe) for recipe in recipes)
