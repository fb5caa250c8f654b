"""Several processes, started by ``accelerate launch``, compute each cell together: its rows and questions are shared.

All of them run the same command. The first one leads: it alone writes the run's record and reports, and tells the
others which cell is next.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.errors import UserError
from harness.config.settings import Request
from harness.distributed.process_group import MainProcessMovedOn, ProcessGroup, world_size
from harness.experiment.context import RunContext, build_context
from harness.experiment.products import CellOutput
from harness.experiment.run_cell import run_cell

STOP = -1
"""The number that says that there is no cell left."""


def launch_settings() -> dict[str, Any]:
    """The settings that a launcher decides: nothing where there is none.

    Raises:
        UserError: It was given a configuration that is not known here.
    """
    if world_size() == 1:
        return {}
    said = os.environ.get
    sharding: str | None = "none"
    if said("ACCELERATE_USE_FSDP") == "true":
        sharding = "fsdp" if said("FSDP_VERSION") == "2" else None
    if said("ACCELERATE_USE_DEEPSPEED") == "true":
        sharding = {"2": "zero2", "3": "zero3"}.get(said("ACCELERATE_DEEPSPEED_ZERO_STAGE", ""))
    if sharding is None:
        raise UserError(
            "this configuration of accelerate shares weights in another way than the four that are known here",
            location="accelerate launch",
            hint="take one of harness/launch: ddp.yaml, fsdp.yaml, zero2.yaml, zero3.yaml",
        )
    return {"processes": world_size(), "sharding": sharding}


def run_main(context: RunContext) -> list[CellOutput]:
    """Compute all cells together with the others, and let these go.

    Raises:
        StorageError: The disk refuses.
    """
    products = []
    for number, cell in enumerate(context.cells):
        context.process_group.send_task(number)
        products.append(run_cell(context, cell))
    context.process_group.send_task(STOP)
    return products


@contextmanager
def release_followers(process_group: ProcessGroup) -> Iterator[None]:
    """A block of the leader's; if it fails, the others are let go."""
    try:
        yield
    except BaseException:
        process_group.send_task(STOP)
        raise


def run_follower(request: Request, process_group: ProcessGroup) -> None:
    """Do what the leader does, until it is through.

    Raises:
        UserError: The run cannot be begun here.
    """
    number = (
        process_group.receive_task()
    )  # the leader has found the run in order, and written down what it was asked for
    if number == STOP:
        return
    context = build_context(request, say=lambda line: None)
    context.process_group = process_group
    while number != STOP:
        try:
            product = run_cell(context, context.cells[number])
            if product.trace:
                print(
                    f"process {process_group.rank}, {product.cell.title}\n{product.trace}", file=sys.stderr, flush=True
                )
        except MainProcessMovedOn as called:
            (number,) = called.args
        else:
            number = process_group.receive_task()


def check_crew(context: RunContext) -> None:
    """Refuse what several processes cannot do, and settings that speak of other processes than there are.

    Raises:
        UserError: Any of these.
    """
    settings, count = context.settings, context.process_group.world_size
    if settings.sharding != "none" and count == 1:
        raise UserError(
            "one process cannot share its weights",
            location=f"sharding={settings.sharding}",
            hint="leave it out; the configuration that `accelerate launch` is given says it",
        )
    if settings.processes != count:
        raise UserError(
            f"{settings.processes} processes are asked for, but {count} were started",
            location="processes",
            hint="leave it out; `accelerate launch --num_processes N -m harness compare ...` starts them",
        )
    if count > 1 and (settings.executor != "local" or (settings.workers or 1) > 1):
        raise UserError(
            "cells cannot be spread over other processes when several compute each of them",
            location="--workers, --executor",
            hint="leave these out, or start the command without `accelerate launch`",
        )
