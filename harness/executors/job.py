"""A job: compute one cell of a run in another process, which reads the run's folder and writes into its store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.errors import first_line
from harness.experiment.cell import Status
from harness.experiment.context import RunContext, build_context
from harness.experiment.outputs import CellOutput
from harness.experiment.request_file import read_request
from harness.experiment.run_cell import run_cell
from harness.storage.files import StorageError

MAX_ATTEMPTS = 3
"""A cell whose process dies this often becomes a failed row."""
REFUSED = "refused"
"""The status of a job that could not write into the store; no other cell could either."""


@dataclass(frozen=True)
class JobResult:
    """The result of a job, in plain values, since the worker may be on another machine.

    Args:
        cell: The number of the cell in the run.
        status: That of the cell, or ``refused``.
        reason: Why it failed.
        trace: The traceback of a bug.
        reused: How many outputs of each kind were stored before.
    """

    cell: int
    status: str
    reason: str = ""
    trace: str = ""
    reused: Mapping[str, int] = field(default_factory=dict)

    def output(self, context: RunContext) -> CellOutput:
        """Read what the worker has stored for the cell; a cell that failed is not tried again here.

        Raises:
            StorageError: The worker could not write into the store.
        """
        cell = context.cells[self.cell]
        if self.status == REFUSED:
            hint = "make room on the disk, then run the command again"
            raise StorageError(self.reason, location=cell.title, hint=hint)
        if self.status in ("failed", "oom"):
            status: Status = "oom" if self.status == "oom" else "failed"
            return CellOutput(cell, status, self.reason, self.trace)
        reused = dict(context.reused)
        output = run_cell(context, cell)
        context.reused = reused  # what the worker has computed does not count as reused
        for kind, number in self.reused.items():
            context.count_reused(kind, number)
        return output


def open_run(folder: Path, plugins: Sequence[Path]) -> RunContext:
    """Build the context of a run whose settings another process has written down.

    Raises:
        UserError: They cannot be read, or the run cannot start here.
    """
    from methods.registry import load_plugins

    load_plugins(plugins)
    return build_context(read_request(folder))


def run_job(context: RunContext, number: int) -> JobResult:
    """Train and answer one cell."""
    context.reused = {}
    try:
        output = run_cell(context, context.cells[number])
    except StorageError as error:
        return JobResult(number, REFUSED, first_line(error))
    return JobResult(number, output.status, output.reason, output.trace, context.reused)
