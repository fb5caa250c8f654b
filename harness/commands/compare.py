"""One comparison from start to end: train and answer each cell, score the answers, report."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import UserError
from harness.commands import BUG, USER_ERROR
from harness.commands.undelivered import list_undelivered, show_undelivered
from harness.config.settings import Request
from harness.console import print_lines, stdout
from harness.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from harness.executors.accelerate_launch import check_process_group, release_followers
from harness.executors.dispatch import run_cells
from harness.experiment.answerers import ask_answerers
from harness.experiment.cell import ANSWERS, SCORES, TRAINING
from harness.experiment.compose import compose, run_signature
from harness.experiment.context import RunContext, build_context
from harness.experiment.imported_answers import with_imported
from harness.experiment.limits import limit_notes
from harness.experiment.outputs import CellOutput
from harness.experiment.preparation import prepare_run
from harness.experiment.request_file import write_request
from harness.experiment.results import write_report, write_results
from harness.experiment.score import score_all
from harness.experiment.trackers import Trackers
from harness.storage.files import atomic_write, locked
from reports.record import Run

logger = logging.getLogger(__name__)

FAILURES, REPORT_FAILURE = "failures.txt", "report-failure.txt"


@dataclass(frozen=True)
class CompareResult:
    """The record of a comparison, and where its report is."""

    run: Run
    outputs: Sequence[CellOutput]
    page: Path | None
    """The leaderboard; None if the report could not be made."""
    damaged: Sequence[str]
    """Stored entries that were damaged, moved aside and computed again."""

    @property
    def exit_code(self) -> int:
        """0, or 1 where a cell or the report failed by a bug, or 2 where something else was not delivered."""
        if self.page is None or any(output.trace for output in self.outputs):
            return BUG
        return USER_ERROR if list_undelivered(self.run) else 0


def compare(request: Request, process_group: ProcessGroup = SINGLE_PROCESS) -> CompareResult:
    """Compute what is missing of a comparison, and report.

    Args:
        request: Methods, settings and folder.
        process_group: The processes that compute each cell together; this is the main one.

    Raises:
        UserError: The run cannot start, or a file cannot be written. What was finished is kept.
    """
    with locked(request.out):
        request = with_imported(request)
        with release_followers(process_group):
            context = build_context(request)
            context.process_group = process_group
            check_process_group(context)
            prepare_run(context)
            context = ask_answerers(context)
        write_request(context.request)
        context.trackers = Trackers(context.settings.track, request.out, context.cache_inputs.device == "cpu")
        outputs = run_cells(context)
        reused, computed = score_all(context.store, outputs, context.inputs.tasks)
        context.count_reused(SCORES, reused)
        return _write(context, outputs, computed)


def show_result(result: CompareResult) -> None:
    """Print the main table and editing's, what each method did, the leaderboard's path, and what is not delivered."""
    from reports.formats import terminal
    from reports.statistics.analysis import analyse
    from reports.tables.editing import editing_table
    from reports.tables.outcomes import outcome_listing
    from reports.tables.tables import main_table

    if result.page is not None:
        analysis = analyse(result.run)
        for table in filter(None, (main_table(analysis), editing_table(analysis))):
            terminal.show(table, stdout())
        if (outcomes := outcome_listing(analysis)) is not None:
            print_lines("")
            terminal.show_listing(outcomes, stdout())
        print_lines("", f"leaderboard: {result.page}")
    show_undelivered(result.run)


def try_report(run: Run, out: Path) -> Path | None:
    """Make the report of a run whose record is written; returns the leaderboard's file.

    A bug in the report loses nothing: it is logged, and the result is None.

    Raises:
        UserError: A file cannot be written.
    """
    try:
        return write_report(run, out)
    except UserError:
        raise
    except Exception:
        atomic_write(out / REPORT_FAILURE, traceback.format_exc())
        logger.error(
            "the report could not be made; the results are kept, and `python -m harness report %s` makes it once the "
            "cause is removed; the traceback is in %s",
            out,
            out / REPORT_FAILURE,
        )
        return None


def _write(context: RunContext, outputs: Sequence[CellOutput], computed: int) -> CompareResult:
    """Write the record of the run, and the report from it."""
    out, resolved, inputs = context.request.out, context.request.resolved, context.cache_inputs
    signature = run_signature(resolved, context.inputs, inputs.base, inputs.device, inputs.precision)
    run = compose(outputs, context.inputs, resolved, signature, limit_notes(context))
    write_results(run, outputs, out)
    context.trackers.scores(run)
    traces = [f"{output.cell.title}\n{output.trace}" for output in outputs if output.trace]
    if traces:
        atomic_write(out / FAILURES, "\n".join(traces))
        logger.info("the tracebacks are in %s", out / FAILURES)
    counts = ", ".join(f"{context.reused.get(kind, 0)} {kind}" for kind in (TRAINING, ANSWERS, SCORES))
    damaged = context.store.quarantined
    more = f"; {len(damaged)} damaged entries were set aside and made again" if damaged else ""
    logger.info("reused from earlier runs: %s; %d scores are new%s", counts, computed, more)
    return CompareResult(run, outputs, try_report(run, out), tuple(damaged))
