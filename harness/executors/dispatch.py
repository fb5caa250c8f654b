"""Have every cell of a run computed, wherever the settings say."""

from __future__ import annotations

from benchmarks.errors import UserError
from harness.executors.accelerate_launch import run_main
from harness.executors.job import JobResult
from harness.experiment.context import RunContext
from harness.experiment.products import CellOutput
from harness.experiment.run_cell import is_complete, run_cell


def run_cells(context: RunContext) -> list[CellOutput]:
    """Train and answer all cells; what comes of them is the same wherever they are computed.

    Raises:
        StorageError: The disk refuses.
        UserError: There is no Ray, or no cluster, or trackers are asked for, which follow one process alone.
    """
    settings = context.settings
    if context.process_group.world_size > 1:
        return run_main(context)
    if settings.executor == "local" and (settings.workers or 1) == 1:
        return [run_cell(context, cell) for cell in context.cells]
    if settings.track:
        raise UserError(
            "losses of other processes would not reach the trackers",
            location=f"track={', '.join(settings.track)}",
            hint="leave out --workers and --executor, or the trackers",
        )
    missing = [number for number, cell in enumerate(context.cells) if not is_complete(context, cell)]
    elsewhere = {done.cell: done for done in _computed(context, missing)}
    return [
        elsewhere[number].product(context) if number in elsewhere else run_cell(context, cell)
        for number, cell in enumerate(context.cells)
    ]


def _computed(context: RunContext, missing: list[int]) -> list[JobResult]:
    settings = context.settings
    if not missing:
        return []
    if settings.executor == "ray":
        from harness.executors.ray_cluster import run_on_ray

        return run_on_ray(context, missing, settings.workers)
    from harness.executors.process_pool import run_in_processes

    return run_in_processes(context, missing, settings.workers or 1)
