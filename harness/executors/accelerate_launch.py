"""Several processes, started by ``accelerate launch``, compute each cell together and share its rows and questions.

All of them run the same command. Only the main process writes the run's record and reports; it sends the others the
number of each cell.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.errors import UserError
from harness.config.settings import Request
from harness.distributed.process_group import MainProcessMovedOn, ProcessGroup, world_size
from harness.experiment.context import RunContext, build_context
from harness.experiment.imported_answers import with_imported
from harness.experiment.run_cell import run_cell

logger = logging.getLogger(__name__)

STOP = -1
"""The task that ends the other processes."""


def launch_settings() -> dict[str, Any]:
    """The settings that the launcher's environment decides; empty without a launcher.

    Raises:
        UserError: The launcher's configuration is not supported.
    """
    if world_size() == 1:
        return {}
    env = os.environ
    sharding: str | None = "none"
    if env.get("ACCELERATE_USE_FSDP") == "true":
        sharding = "fsdp" if env.get("FSDP_VERSION") == "2" else None
    if env.get("ACCELERATE_USE_DEEPSPEED") == "true":
        sharding = {"2": "zero2", "3": "zero3"}.get(env.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", ""))
    if sharding is None:
        raise UserError(
            "this configuration of accelerate shards weights in another way than the four that are supported",
            location="accelerate launch",
            hint="use one of harness/launch: ddp.yaml, fsdp.yaml, zero2.yaml, zero3.yaml",
        )
    return {"processes": world_size(), "sharding": sharding}


@contextmanager
def release_followers(process_group: ProcessGroup) -> Iterator[None]:
    """End the other processes if the main process fails in this block."""
    try:
        yield
    except BaseException:
        process_group.send_task(STOP)
        raise


def run_follower(request: Request, process_group: ProcessGroup) -> None:
    """Compute each cell with the main process, until it sends ``STOP``.

    Raises:
        UserError: The run cannot start here.
    """
    number = process_group.receive_task()  # the first comes once the main process has checked the run
    if number == STOP:
        return
    context = build_context(with_imported(request))
    context.process_group = process_group
    while number != STOP:
        try:
            output = run_cell(context, context.cells[number])
            if output.trace:
                logger.error("process %d, %s\n%s", process_group.rank, output.cell.title, output.trace)
        except MainProcessMovedOn as moved_on:
            (number,) = moved_on.args
        else:
            number = process_group.receive_task()


def check_process_group(context: RunContext) -> None:
    """Check that the settings fit the number of processes.

    Raises:
        UserError: They do not.
    """
    settings, count = context.settings, context.process_group.world_size
    if settings.sharding != "none" and count == 1:
        raise UserError(
            "one process cannot shard its weights",
            location=f"sharding={settings.sharding}",
            hint="leave it out; the configuration of `accelerate launch` sets it",
        )
    if settings.processes != count:
        raise UserError(
            f"{settings.processes} processes are asked for, but {count} were started",
            location="processes",
            hint="leave it out; `accelerate launch --num_processes N -m harness compare ...` starts them",
        )
    if count > 1 and (settings.executor != "local" or (settings.workers or 1) > 1):
        raise UserError(
            "cells cannot be distributed over other processes when several compute each of them",
            location="--workers, --executor",
            hint="leave these out, or start the command without `accelerate launch`",
        )
