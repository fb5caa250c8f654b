"""Several processes, started by ``accelerate launch``, compute each cell together: its rows and questions are shared.

All of them run the same command. The first one leads: it alone writes the run's record and reports, and tells the
others which cell is next.
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks.errors import UserError
from harness.cells.one import run_cell
from harness.crew import Called, Crew, launched
from harness.results import CellProduct
from harness.settings import Request
from harness.workshop import Workshop, open_workshop

OVER = -1
"""The number that says that there is no cell left."""


def as_launched() -> dict[str, Any]:
    """The settings that a launcher decides: nothing where there is none."""
    if launched() == 1:
        return {}
    sharding = "none"
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        sharding = "fsdp"
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        stage = int(os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2"))
        sharding = "zero3" if stage == 3 else "zero2"
    return {"processes": launched(), "sharding": sharding}


def lead(workshop: Workshop) -> list[CellProduct]:
    """Compute all cells together with the others, and let these go.

    Raises:
        StorageError: The disk refuses.
    """
    products = []
    for number, cell in enumerate(workshop.cells):
        workshop.crew.call(number)
        products.append(run_cell(workshop, cell))
    workshop.crew.call(OVER)
    return products


def follow(request: Request, crew: Crew) -> None:
    """Do what the leader does, until it is through.

    Raises:
        UserError: The run cannot be begun here.
    """
    number = crew.called()  # the leader has found the run in order, and written down what it was asked for
    if number == OVER:
        return
    workshop = open_workshop(request, say=lambda line: None)
    workshop.crew = crew
    while number != OVER:
        try:
            run_cell(workshop, workshop.cells[number])
        except Called as called:
            (number,) = called.args
        else:
            number = crew.called()


def check_crew(workshop: Workshop) -> None:
    """Refuse what several processes cannot do, and settings that speak of other processes than there are.

    Raises:
        UserError: Any of these.
    """
    settings, count = workshop.settings, workshop.crew.count
    if settings.processes != count:
        raise UserError(
            f"{settings.processes} processes are asked for, but {count} were started",
            where="processes",
            mend="leave it out; `accelerate launch --num_processes N -m harness compare ...` starts them",
        )
    if count > 1 and (settings.executor != "local" or (settings.workers or 1) > 1):
        raise UserError(
            "cells cannot be spread over other processes when several compute each of them",
            where="--workers, --executor",
            mend="leave these out, or start the command without `accelerate launch`",
        )
