"""The story on one page: plan the cells; have each trained and answered; score and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.settings import Request
from harness.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from harness.executors.accelerate_launch import check_crew, release_followers
from harness.executors.dispatch import run_cells
from harness.experiment.cell import ANSWERS, SCORES, TRAINING
from harness.experiment.context import RunContext, Say, build_context, locked
from harness.experiment.products import CellOutput
from harness.experiment.request_file import write_request
from harness.experiment.results import compose, run_signature, write_report, write_results
from harness.experiment.score import score_all
from harness.experiment.trackers import Trackers
from harness.llm.judge import check_judge
from harness.storage.store import atomic_write
from reports.record import Run

FAILURES = "failures.txt"
BUG, USER_ERROR = 1, 2


@dataclass(frozen=True)
class CompareResult:
    """What a comparison leaves behind."""

    run: Run
    products: Sequence[CellOutput]
    page: Path
    """The leaderboard."""
    damaged: Sequence[str]
    """Stored entries that were found damaged, set aside and computed again."""

    @property
    def exit_code(self) -> int:
        """0, or 1 where a cell failed by a bug, or 2 where one failed by what the user can mend."""
        if any(product.trace for product in self.products):
            return BUG
        return USER_ERROR if any(product.status in ("failed", "oom") for product in self.products) else 0


def compare(request: Request, say: Say, process_group: ProcessGroup = SINGLE_PROCESS) -> CompareResult:
    """Do what is missing of a comparison, and report.

    Args:
        request: Methods, settings and folder.
        say: Tells the user what is going on.
        crew: The processes that compute each cell together; this one leads.

    Raises:
        UserError: The run cannot be begun, or the disk refuses. What was finished is kept.
    """
    with locked(request.out):
        with release_followers(process_group):
            context = build_context(request, say)
            context.process_group = process_group
            check_crew(context)
            check_judge(request.resolved.settings.judge)
        context.store.remove_partials()
        write_request(context)
        context.trackers = Trackers(context.settings.track, request.out, context.cache_inputs.device == "cpu")
        products = run_cells(context)
        reused, computed = score_all(context.store, products, context.sources.asked)
        context.count_reused(SCORES, reused)
        return _finish(context, products, computed)


def _finish(context: RunContext, products: Sequence[CellOutput], computed: int) -> CompareResult:
    """Write the record of the run, and the report from it."""
    out, cache_inputs = context.request.out, context.cache_inputs
    signature = run_signature(context.request.resolved, cache_inputs.base, cache_inputs.device, cache_inputs.precision)
    run = compose(products, context.sources, context.request.resolved, signature)
    write_results(run, products, out)
    context.trackers.scores(run)
    traces = [f"{product.cell.title}\n{product.trace}" for product in products if product.trace]
    if traces:
        atomic_write(out / FAILURES, "\n".join(traces))
        context.say(f"the tracebacks are in {out / FAILURES}")
    context.say(_summary(context, computed))
    return CompareResult(run, products, write_report(run, out), tuple(context.store.quarantined))


def _summary(context: RunContext, computed: int) -> str:
    """What was there already, in one line."""
    reused = context.reused
    parts = [f"{reused.get(kind, 0)} {kind}" for kind in (TRAINING, ANSWERS, SCORES)]
    line = f"reused from earlier runs: {', '.join(parts)}; {computed} scores are new"
    damaged = context.store.quarantined
    return f"{line}; {len(damaged)} damaged entries were set aside and made again" if damaged else line
