"""Compute every cell of a run where the settings say: here, in other processes, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.errors import UserError
from harness.executors.accelerate_launch import STOP
from harness.executors.job import JobResult
from harness.experiment.context import RunContext
from harness.experiment.outputs import CellOutput
from harness.experiment.run_cell import is_complete, run_cell
from harness.storage.digests import digest


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
    results = [result for numbers in _rounds(context, missing) for result in _distribute(context, numbers, workers)]
    by_cell = {result.cell: result for result in results}
    return [
        by_cell[number].output(context) if number in by_cell else run_cell(context, cell)
        for number, cell in enumerate(context.cells)
    ]


def _rounds(context: RunContext, numbers: Sequence[int]) -> Iterator[list[int]]:
    """The cells in one round or two: those that share another cell's training come after it."""
    first: dict[str, int] = {}
    for number in numbers:
        cell = context.cells[number]
        key = digest(cell.training_key(context.cache_inputs)) if cell.settings else ""
        first.setdefault(key, number)
    trained = sorted(first.values())
    yield from filter(None, (trained, sorted(set(numbers) - set(trained))))


def _distribute(context: RunContext, numbers: Sequence[int], workers: int) -> list[JobResult]:
    if context.settings.executor == "ray":
        from harness.executors.ray_cluster import run_on_ray

        return run_on_ray(context, numbers, context.settings.workers)
    from harness.executors.process_pool import run_in_processes

    return run_in_processes(context, numbers, workers)
