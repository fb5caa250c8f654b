"""Walk through the injection stages of a cell: train each, have it asked about all parts so far, go on from there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from harness.data.inputs import BenchmarkTask
from harness.experiment.answer import get_answers, stored_answers
from harness.experiment.cell import ADAPTERS, TRAINING, Cell
from harness.experiment.context import RunContext
from harness.experiment.products import StageOutput
from harness.experiment.stages import (
    CARRIED,
    PreviousStage,
    Stage,
    about_knowledge,
    asked_about,
    item_of_question,
    split_knowledge,
)
from harness.experiment.train import Record, stored_training, train
from harness.storage.store import digest


class TrainedStage(NamedTuple):
    """A step with the record of its training and, if it is not the last, what was asked after it and answered."""

    step: Stage
    record: Record
    stage: StageOutput | None
    """None with a single stage."""


def stages_of(context: RunContext, cell: Cell) -> list[Stage]:
    """What a cell is trained in, each step without the one before: that is known only once it is trained."""
    count = context.settings.stages
    dealt = split_knowledge(context.sources.knowledge, count, cell.seed)
    return [Stage(cell, part, number, count) for number, part in enumerate(dealt, 1)]


def cached_stages(context: RunContext, cell: Cell) -> list[tuple[Stage, Record]]:
    """The steps whose trainings are stored, up to the first that is not or did not end well."""
    found: list[tuple[Stage, Record]] = []
    for step in stages_of(context, cell):
        step = _after(context, step, found[-1] if found else None)
        record = stored_training(context, step)
        if record is None:
            break
        found.append((step, record))
        if record["status"] != "ok":
            break
    return found


def run_stages(context: RunContext, cell: Cell) -> Iterator[TrainedStage]:
    """Train what is not stored, and ask what is not answered; ends early where a training diverges.

    Raises:
        UserError: The method asks for what is not there, or the cell does not do what its row would claim.
    """
    process_group = context.process_group
    again = process_group.broadcast_from_main(lambda: sorted(_again(context, cell)))
    before: tuple[Stage, Record] | None = None
    for step in stages_of(context, cell):
        step = _after(context, step, before)
        record = (
            None if step.number in again else process_group.broadcast_from_main(partial(stored_training, context, step))
        )
        if record is None:
            record = train(context, step)
        else:
            context.count_reused(TRAINING)
        before = (step, record)
        yield TrainedStage(step, record, None if step.of == 1 else _stage(context, step, record))
        if record["status"] != "ok":
            return


def new_stage(context: RunContext, step: Stage, record: Record, key: str) -> StageOutput:
    """A stage that was trained, not answered yet.

    Args:
        workshop: What the cells share.
        step: One of several.
        record: Of its training.
        key: Where the record lies in the store.
    """
    asked, owner = about_knowledge(context.sources.asked), item_of_question(context.sources)
    own = tuple(question.id for question in asked_about(asked, owner, step.knowledge))
    asks = record["status"] == "ok" and not step.last
    return StageOutput(step, record, key, own, tasks_after(context, step)[0] if asks else None)


def _stage(context: RunContext, step: Stage, record: Record) -> StageOutput:
    """The stage with its questions answered."""
    product = new_stage(context, step, record, digest(step.recipe(context.cache_inputs)))
    if product.asked is not None:
        found = get_answers(context, step.cell, step, record["adapter"], [product.asked])
        if product.asked.name in found:
            one = found[product.asked.name]
            product.answers, product.answers_key, product.seconds = one.answers, one.key, one.seconds
    return product


def tasks_after(context: RunContext, step: Stage) -> tuple[BenchmarkTask, ...]:
    """What is asked after a step: everything after the last, else what concerns the knowledge of the stages so far."""
    if step.last:
        return context.sources.asked
    asked, owner = about_knowledge(context.sources.asked), item_of_question(context.sources)
    dealt = split_knowledge(context.sources.knowledge, step.of, step.cell.seed)
    so_far = [item for part in dealt[: step.number] for item in part]
    return (BenchmarkTask(asked.benchmark, asked.fingerprint, asked_about(asked, owner, so_far)),)


def _after(context: RunContext, step: Stage, before: tuple[Stage, Record] | None) -> Stage:
    """The step with what the one before it left."""
    if before is None:
        return step
    earlier, record = before
    left = PreviousStage(earlier.recipe(context.cache_inputs), record["adapter"], record["carried"])
    return replace(step, earlier=left)


def _again(context: RunContext, cell: Cell) -> set[int]:
    """Numbers of the steps to be trained again, though recorded: their adapter is lost, and something needs it."""
    found = cached_stages(context, cell)
    if not found or found[-1][1]["status"] != "ok":
        found, trains = found[:-1], False
    else:
        trains = not found[-1][0].last
    again: set[int] = set()
    for step, record in reversed(found):
        asked = tasks_after(context, step)
        complete = len(stored_answers(context, cell, record["adapter"], asked)) == len(asked)
        trains = (trains or not complete) and not _whole(context, step, record)
        if trains:
            again.add(step.number)
    return again


def _whole(context: RunContext, step: Stage, record: Record) -> bool:
    """Whether what a step left is there and undamaged."""
    recipe = step.recipe(context.cache_inputs)
    return all(
        context.store.read_tensors(kind, recipe) is not None and context.store.content_digest(kind, recipe) == sha256
        for kind, sha256 in ((ADAPTERS, record["adapter"]), (CARRIED, record.get("carried", "")))
        if sha256
    )
