"""One cell from its knowledge to its answers. Its failure does not stop the others."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from benchmarks.errors import UserError, first_line
from harness.distributed.failures import is_out_of_memory, is_shared
from harness.distributed.process_group import MainProcessMovedOn
from harness.experiment.answer import are_answered, get_answers, stored_answers
from harness.experiment.answering_engine import answering_by_id, answering_entry
from harness.experiment.cell import TRAINING, Cell
from harness.experiment.context import RunContext
from harness.experiment.leaks import count_leaked
from harness.experiment.outputs import CellOutput, StageOutput
from harness.experiment.stages import (
    Record,
    Stage,
    cached_stages,
    is_intact,
    list_stages,
    merge_records,
    stored_record,
    tasks_after,
)
from harness.experiment.train import train_stage
from harness.storage.digests import digest
from harness.storage.files import StorageError

logger = logging.getLogger(__name__)


def run_cell(context: RunContext, cell: Cell) -> CellOutput:
    """Train and answer one cell. A failure is recorded and does not stop the other cells.

    Raises:
        StorageError: A file cannot be written; other cells would fail too.
        MainProcessMovedOn: The main process has gone on to something else.
    """
    output = CellOutput(cell)
    stage: Stage | None = None
    with _failure_recorded(context, output):
        records: list[Record] = []
        for trained in run_stages(context, cell) if cell.has_adapter else ():
            stage = trained.stage
            records.append(stage.record)
            output.training, output.training_entry = merge_records(records), trained.training_entry
            if stage.count > 1:
                output.stages.append(trained)
        if stage is not None:
            output.status, output.reason = output.training["status"], output.training["reason"]
            if output.status != "ok":
                logger.warning("%s: %s: %s", stage.title, output.status, output.reason)
                return output
            output.leaks = context.process_group.broadcast_from_main(partial(count_leaked, context, cell))
            if output.leaks:
                message = "%s: its training data contains %d evaluation questions; it is never ranked"
                logger.warning(message, cell.title, output.leaks)
        output.signature = digest([cell.identity(), stage.adapter if stage else ""])[:16]
        output.answers = get_answers(context, cell, stage, context.inputs.tasks)
        output.answering_entry = answering_entry(context, cell, stage)
        output.answering = answering_by_id(context.store, output.answering_entry) or output.answering
    return output


@contextmanager
def _failure_recorded(context: RunContext, output: CellOutput) -> Iterator[None]:
    """Record an exception of the block in the cell's output, unless it concerns other cells or processes as well."""
    try:
        yield
    except (StorageError, MainProcessMovedOn):
        raise
    except Exception as error:
        if context.process_group.world_size > 1 and not is_shared(error):
            raise  # the other processes wait for this one until it ends, which the launcher notices
        out_of_memory = is_out_of_memory(error)
        output.status = "oom" if out_of_memory else "failed"
        output.reason = first_line(error)
        if not isinstance(error, UserError):
            output.reason = f"{type(error).__name__}: {output.reason}"
            output.trace = "" if out_of_memory else traceback.format_exc()
        output.answers.clear()
        output.stages.clear()
        context.unload_model()
        logger.warning("%s: %s: %s", output.cell.title, output.status, output.reason)


def run_stages(context: RunContext, cell: Cell) -> Iterator[StageOutput]:
    """Train the stages of a cell one after the other, and ask about the knowledge so far after each but the last.

    What is stored already is reused. Ends early if a training diverges.

    Raises:
        UserError: The method needs something that is not available.
        IntegrityError: The cell violates an invariant.
    """
    group = context.process_group
    previous: Stage | None = None
    retrained = group.broadcast_from_main(lambda: sorted(_stages_to_retrain(context, cell)))
    for stage in list_stages(context, cell):
        stage, record = replace(stage, previous=previous), None
        if stage.number not in retrained:
            record = group.broadcast_from_main(partial(stored_record, context, stage))
        if record is None:
            stage = train_stage(context, stage)
        else:
            context.count_reused(TRAINING)
            stage = replace(stage, record=record)
            if group.is_main_process:  # a kill just after the record was written leaves it
                context.store.checkpoint(TRAINING, stage.training_key(context.cache_inputs)).discard()
        output = stage_output(context, stage)
        if output.task is not None:
            output.answers = get_answers(context, cell, stage, [output.task]).get(output.task.name)
        yield output
        if stage.status != "ok":
            return
        previous = stage


def stage_output(context: RunContext, stage: Stage) -> StageOutput:
    """The output of a trained stage before it is asked anything."""
    output = StageOutput(stage, digest(stage.training_key(context.cache_inputs)))
    if stage.count > 1:
        output.question_ids = tuple(question.id for question in context.inputs.questions_about(stage.knowledge))
        if stage.status == "ok" and not stage.is_last:
            (output.task,) = tasks_after(context, stage)
    return output


def is_complete(context: RunContext, cell: Cell) -> bool:
    """Whether everything about a cell is stored. ``run_cell`` then loads no model, unless it finds damaged entries."""
    if not cell.has_adapter:
        return are_answered(context, cell, None, context.inputs.tasks)
    stages = cached_stages(context, cell)
    if stages and stages[-1].status != "ok":
        return True
    return len(stages) == context.settings.stage_count and all(
        are_answered(context, cell, stage, tasks_after(context, stage)) for stage in stages
    )


def _stages_to_retrain(context: RunContext, cell: Cell) -> set[int]:
    """Numbers of the stages whose record is stored but whose adapter is lost and needed."""
    stages = cached_stages(context, cell)
    if not stages or stages[-1].status != "ok":
        stages, needed = stages[:-1], False
    else:
        needed = not stages[-1].is_last
    retrained: set[int] = set()
    for stage in reversed(stages):
        tasks = tasks_after(context, stage)
        answered = len(stored_answers(context, cell, stage, tasks)) == len(tasks)
        needed = (needed or not answered) and not is_intact(context, stage)
        if needed:
            retrained.add(stage.number)
    return retrained
