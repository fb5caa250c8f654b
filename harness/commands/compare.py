"""The story on one page: plan the cells; have each trained and answered; score and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.settings import Request
from harness.distributed.process_group import ALONE, Crew
from harness.executors.accelerate_launch import check_crew, dismissing
from harness.executors.dispatch import run_cells
from harness.experiment.cell import ANSWERS, SCORES, TRAINING
from harness.experiment.context import Say, Workshop, locked, open_workshop
from harness.experiment.request_file import write_request
from harness.experiment.results import CellProduct, compose, run_signature, write_report, write_results
from harness.experiment.score import score_all
from harness.experiment.trackers import Trackers
from harness.llm.judge import check_judge
from harness.storage.store import write_whole
from reports.record import Run

FAILURES = "failures.txt"
BUG, USER_ERROR = 1, 2


@dataclass(frozen=True)
class Outcome:
    """What a comparison leaves behind."""

    run: Run
    products: Sequence[CellProduct]
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


def compare(request: Request, say: Say, crew: Crew = ALONE) -> Outcome:
    """Do what is missing of a comparison, and report.

    Args:
        request: Methods, settings and folder.
        say: Tells the user what is going on.
        crew: The processes that compute each cell together; this one leads.

    Raises:
        UserError: The run cannot be begun, or the disk refuses. What was finished is kept.
    """
    with locked(request.out):
        with dismissing(crew):
            workshop = open_workshop(request, say)
            workshop.crew = crew
            check_crew(workshop)
            check_judge(request.resolved.settings.judge)
        workshop.store.sweep()
        write_request(workshop)
        workshop.trackers = Trackers(workshop.settings.track, request.out, workshop.ground.device == "cpu")
        products = run_cells(workshop)
        reused, computed = score_all(workshop.store, products, workshop.sources.asked)
        workshop.count_reused(SCORES, reused)
        return _finish(workshop, products, computed)


def _finish(workshop: Workshop, products: Sequence[CellProduct], computed: int) -> Outcome:
    """Write the record of the run, and the report from it."""
    out, ground = workshop.request.out, workshop.ground
    signature = run_signature(workshop.request.resolved, ground.base, ground.device, ground.precision)
    run = compose(products, workshop.sources, workshop.request.resolved, signature)
    write_results(run, products, out)
    workshop.trackers.scores(run)
    traces = [f"{product.cell.title}\n{product.trace}" for product in products if product.trace]
    if traces:
        write_whole(out / FAILURES, "\n".join(traces))
        workshop.say(f"the tracebacks are in {out / FAILURES}")
    workshop.say(_summary(workshop, computed))
    return Outcome(run, products, write_report(run, out), tuple(workshop.store.set_aside))


def _summary(workshop: Workshop, computed: int) -> str:
    """What was there already, in one line."""
    reused = workshop.reused
    parts = [f"{reused.get(kind, 0)} {kind}" for kind in (TRAINING, ANSWERS, SCORES)]
    line = f"reused from earlier runs: {', '.join(parts)}; {computed} scores are new"
    damaged = workshop.store.set_aside
    return f"{line}; {len(damaged)} damaged entries were set aside and made again" if damaged else line
