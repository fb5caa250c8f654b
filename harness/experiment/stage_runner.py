"""Walk through the injection stages of a cell: train each, have it asked about all parts so far, go on from there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from harness.data.inputs import Asked
from harness.experiment.answer import answered, stored_answers
from harness.experiment.cell import ADAPTERS, TRAINING, Cell
from harness.experiment.context import Workshop
from harness.experiment.stages import CARRIED, Earlier, StageProduct, Step, about_knowledge, asked_about, owners, parts
from harness.experiment.train import Record, stored_training, train
from harness.storage.store import digest


class Walked(NamedTuple):
    """A step with the record of its training and, if it is not the last, what was asked after it and answered."""

    step: Step
    record: Record
    stage: StageProduct | None
    """None with a single stage."""


def steps(workshop: Workshop, cell: Cell) -> list[Step]:
    """What a cell is trained in, each step without the one before: that is known only once it is trained."""
    count = workshop.settings.stages
    dealt = parts(workshop.sources.knowledge, count, cell.seed)
    return [Step(cell, part, number, count) for number, part in enumerate(dealt, 1)]


def stored_steps(workshop: Workshop, cell: Cell) -> list[tuple[Step, Record]]:
    """The steps whose trainings are stored, up to the first that is not or did not end well."""
    found: list[tuple[Step, Record]] = []
    for step in steps(workshop, cell):
        step = _after(workshop, step, found[-1] if found else None)
        record = stored_training(workshop, step)
        if record is None:
            break
        found.append((step, record))
        if record["status"] != "ok":
            break
    return found


def walk(workshop: Workshop, cell: Cell) -> Iterator[Walked]:
    """Train what is not stored, and ask what is not answered; ends early where a training diverges.

    Raises:
        UserError: The method asks for what is not there, or the cell does not do what its row would claim.
    """
    crew = workshop.crew
    again = crew.agreed(lambda: sorted(_again(workshop, cell)))
    before: tuple[Step, Record] | None = None
    for step in steps(workshop, cell):
        step = _after(workshop, step, before)
        record = None if step.number in again else crew.agreed(partial(stored_training, workshop, step))
        if record is None:
            record = train(workshop, step)
        else:
            workshop.count_reused(TRAINING)
        before = (step, record)
        yield Walked(step, record, None if step.of == 1 else _stage(workshop, step, record))
        if record["status"] != "ok":
            return


def new_stage(workshop: Workshop, step: Step, record: Record, key: str) -> StageProduct:
    """A stage that was trained, not answered yet.

    Args:
        workshop: What the cells share.
        step: One of several.
        record: Of its training.
        key: Where the record lies in the store.
    """
    asked, owner = about_knowledge(workshop.sources.asked), owners(workshop.sources)
    own = tuple(question.id for question in asked_about(asked, owner, step.knowledge))
    asks = record["status"] == "ok" and not step.last
    return StageProduct(step, record, key, own, asked_after(workshop, step)[0] if asks else None)


def _stage(workshop: Workshop, step: Step, record: Record) -> StageProduct:
    """The stage with its questions answered."""
    product = new_stage(workshop, step, record, digest(step.recipe(workshop.ground)))
    if product.asked is not None:
        found = answered(workshop, step.cell, step, record["adapter"], [product.asked])
        if product.asked.name in found:
            one = found[product.asked.name]
            product.answers, product.answers_key, product.seconds = one.answers, one.key, one.seconds
    return product


def asked_after(workshop: Workshop, step: Step) -> tuple[Asked, ...]:
    """What is asked after a step: everything after the last, else what concerns the knowledge of the stages so far."""
    if step.last:
        return workshop.sources.asked
    asked, owner = about_knowledge(workshop.sources.asked), owners(workshop.sources)
    dealt = parts(workshop.sources.knowledge, step.of, step.cell.seed)
    so_far = [item for part in dealt[: step.number] for item in part]
    return (Asked(asked.benchmark, asked.fingerprint, asked_about(asked, owner, so_far)),)


def _after(workshop: Workshop, step: Step, before: tuple[Step, Record] | None) -> Step:
    """The step with what the one before it left."""
    if before is None:
        return step
    earlier, record = before
    left = Earlier(earlier.recipe(workshop.ground), record["adapter"], record["carried"])
    return replace(step, earlier=left)


def _again(workshop: Workshop, cell: Cell) -> set[int]:
    """Numbers of the steps to be trained again, though recorded: their adapter is lost, and something needs it."""
    found = stored_steps(workshop, cell)
    if not found or found[-1][1]["status"] != "ok":
        found, trains = found[:-1], False
    else:
        trains = not found[-1][0].last
    again: set[int] = set()
    for step, record in reversed(found):
        asked = asked_after(workshop, step)
        complete = len(stored_answers(workshop, cell, record["adapter"], asked)) == len(asked)
        trains = (trains or not complete) and not _whole(workshop, step, record)
        if trains:
            again.add(step.number)
    return again


def _whole(workshop: Workshop, step: Step, record: Record) -> bool:
    """Whether what a step left is there and undamaged."""
    recipe = step.recipe(workshop.ground)
    return all(
        workshop.store.read_tensors(kind, recipe) is not None and workshop.store.content_digest(kind, recipe) == sha256
        for kind, sha256 in ((ADAPTERS, record["adapter"]), (CARRIED, record.get("carried", "")))
        if sha256
    )
