"""Have every cell of a run computed, wherever the settings say."""

from __future__ import annotations

from benchmarks.errors import UserError
from harness.executors.accelerate_launch import lead
from harness.executors.job import Done
from harness.experiment.context import Workshop
from harness.experiment.results import CellProduct
from harness.experiment.run_cell import finished, run_cell


def run_cells(workshop: Workshop) -> list[CellProduct]:
    """Train and answer all cells; what comes of them is the same wherever they are computed.

    Raises:
        StorageError: The disk refuses.
        UserError: There is no Ray, or no cluster, or trackers are asked for, which follow one process alone.
    """
    settings = workshop.settings
    if workshop.crew.count > 1:
        return lead(workshop)
    if settings.executor == "local" and (settings.workers or 1) == 1:
        return [run_cell(workshop, cell) for cell in workshop.cells]
    if settings.track:
        raise UserError(
            "losses of other processes would not reach the trackers",
            where=f"track={', '.join(settings.track)}",
            mend="leave out --workers and --executor, or the trackers",
        )
    missing = [number for number, cell in enumerate(workshop.cells) if not finished(workshop, cell)]
    elsewhere = {done.cell: done for done in _computed(workshop, missing)}
    return [
        elsewhere[number].product(workshop) if number in elsewhere else run_cell(workshop, cell)
        for number, cell in enumerate(workshop.cells)
    ]


def _computed(workshop: Workshop, missing: list[int]) -> list[Done]:
    settings = workshop.settings
    if not missing:
        return []
    if settings.executor == "ray":
        from harness.executors.ray_cluster import on_ray

        return on_ray(workshop, missing, settings.workers)
    from harness.executors.process_pool import on_workers

    return on_workers(workshop, missing, settings.workers or 1)
