"""What a worker is sent for: one cell of a run that lies on the disk. What comes of it goes into the run's store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.experiment.cell import Status
from harness.experiment.context import RunContext, Say, build_context
from harness.experiment.products import CellOutput
from harness.experiment.request_file import read_request
from harness.experiment.run_cell import run_cell
from harness.storage.store import StorageError

REFUSED = "refused"
"""The status of an errand on which the disk refused: no other cell would fare better."""


@dataclass(frozen=True)
class JobResult:
    """What a worker says at the end; plain values, for it may be on another machine.

    Args:
        cell: Its number in the run.
        status: That of the cell, or ``refused``.
        reason: Why it did not end well.
        trace: The traceback of a bug.
        reused: How many products of each kind were there already.
    """

    cell: int
    status: str
    reason: str = ""
    trace: str = ""
    reused: Mapping[str, int] = field(default_factory=dict)

    def product(self, context: RunContext) -> CellOutput:
        """What came of the cell: what a worker has stored is read, what failed is not tried again here.

        Raises:
            StorageError: The disk refused.
        """
        cell = context.cells[self.cell]
        if self.status == REFUSED:
            raise StorageError(
                self.reason, location=cell.title, hint="make room on the disk, then run the command again"
            )
        if self.status in ("failed", "oom"):
            status: Status = "oom" if self.status == "oom" else "failed"
            return CellOutput(cell, status, self.reason, self.trace)
        before = dict(context.reused)
        product = run_cell(context, cell)
        context.reused = before
        for kind, number in self.reused.items():
            context.count_reused(kind, number)
        return product


def open_run(folder: Path, plugins: Sequence[Path], say: Say) -> RunContext:
    """The workshop of a run whose settings another process has written down.

    Raises:
        UserError: They cannot be read, or the run cannot be begun here.
    """
    from methods.registry import load_file, load_installed

    for plugin in plugins:
        load_file(plugin)
    for error in load_installed():
        say(f"warning: {error}")
    return build_context(read_request(folder), say)


def run_job(context: RunContext, number: int) -> JobResult:
    """Train and answer one cell."""
    context.reused = {}
    try:
        product = run_cell(context, context.cells[number])
    except StorageError as error:
        return JobResult(number, REFUSED, str(error).splitlines()[0])
    return JobResult(number, product.status, product.reason, product.trace, context.reused)
