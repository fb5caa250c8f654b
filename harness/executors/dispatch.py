"""Compute every cell of a run where the settings say: here, in other processes, or on a Ray cluster."""

from __future__ import annotations

from benchmarks.errors import UserError
from harness.executors.accelerate_launch import STOP
from harness.experiment.context import RunContext
from harness.experiment.outputs import CellOutput
from harness.experiment.run_cell import is_complete, run_cell


def run_cells(context: RunContext) -> list[CellOutput]:
    """Train and answer all cells; the results are the same wherever they are computed.

    Raises:
        StorageError: A file cannot be written.
        UserError: Ray is missing or its cluster cannot be reached, or trackers are asked for, which follow only this
            process.
    """
    settings = context.settings
    workers = settings.workers or 1
    if settings.executor == "local" and workers == 1:
        outputs = []
        for number, cell in enumerate(context.cells):
            context.process_group.send_task(number)  # to the processes that compute each cell with this one, if any
            outputs.append(run_cell(context, cell))
        context.process_group.send_task(STOP)
        return outputs
    if settings.track:
        raise UserError(
            "losses of other processes would not reach the trackers",
            location=f"track={', '.join(settings.track)}",
            hint="leave out --workers and --executor, or the trackers",
        )
    missing = [number for number, cell in enumerate(context.cells) if not is_complete(context, cell)]
    results = []
    if missing and settings.executor == "ray":
        from harness.executors.ray_cluster import run_on_ray

        results = run_on_ray(context, missing, settings.workers)
    elif missing:
        from harness.executors.process_pool import run_in_processes

        results = run_in_processes(context, missing, workers)
    by_cell = {result.cell: result for result in results}
    return [
        by_cell[number].output(context) if number in by_cell else run_cell(context, cell)
        for number, cell in enumerate(context.cells)
    ]
