"""The story on one page: plan the cells; train, answer and score each; report."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import UserError
from harness.cell_answers import answer_missing, stored_answers
from harness.cell_stages import walk
from harness.cells import ANSWERS, SCORES, TRAINING, Cell
from harness.leaks import leaks
from harness.record import write_request
from harness.results import CellProduct, compose, run_signature, write_report, write_results
from harness.scoring import score_all
from harness.settings import Request
from harness.stages import Record, joined
from harness.store import StorageError, digest, write_whole
from harness.trackers import Trackers
from harness.workshop import Say, Workshop, locked, open_workshop
from reports.run import Run

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


def compare(request: Request, say: Say) -> Outcome:
    """Do what is missing of a comparison, and report.

    Args:
        request: Methods, settings and folder.
        say: Tells the user what is going on.

    Raises:
        UserError: The run cannot be begun, or the disk refuses. What was finished is kept.
    """
    with locked(request.out):
        workshop = open_workshop(request, say)
        workshop.store.sweep()
        write_request(workshop)
        workshop.trackers = Trackers(workshop.settings.track, request.out, workshop.ground.device == "cpu")
        products = [run_cell(workshop, cell) for cell in workshop.cells]
        reused, computed = score_all(workshop.store, products, workshop.sources.asked)
        workshop.count_reused(SCORES, reused)
        return _finish(workshop, products, computed)


def run_cell(workshop: Workshop, cell: Cell) -> CellProduct:
    """Train and answer one cell. Whatever goes wrong with it is recorded and does not stop the others.

    Raises:
        StorageError: The disk refuses; no other cell would fare better.
    """
    product = CellProduct(cell)
    try:
        _run(workshop, cell, product)
    except StorageError:
        raise
    except Exception as error:  # the cells to come must not suffer for this one
        from harness.training import OutOfMemory, out_of_memory

        starved = isinstance(error, OutOfMemory | MemoryError) or (
            isinstance(error, RuntimeError) and out_of_memory(error)
        )
        product.status = "oom" if starved else "failed"
        product.reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not isinstance(error, UserError):
            product.reason = f"{type(error).__name__}: {product.reason}"
            product.trace = "" if starved else traceback.format_exc()
        product.answers.clear()
        product.stages.clear()
        workshop.drop_model()
        workshop.say(f"{cell.title}: {product.status}: {product.reason}")
    return product


def _run(workshop: Workshop, cell: Cell, product: CellProduct) -> None:
    adapter, last = "", None
    if cell.settings is not None:
        records: list[Record] = []
        for last, record, stage in walk(workshop, cell):
            records.append(record)
            product.training, product.training_key = joined(records), digest(last.recipe(workshop.ground))
            if stage is not None:
                product.stages.append(stage)
                product.answering_seconds += stage.seconds
        if product.training["status"] != "ok":
            product.status, product.reason = product.training["status"], product.training["reason"]
            workshop.say(f"{last.title if last else cell.title}: {product.status}: {product.reason}")
            return
        adapter = product.training["adapter"]
        product.leaks = leaks(workshop, cell)
        if product.leaks:
            workshop.say(f"{cell.title}: its training data holds {product.leaks} evaluation questions; never ranked")
    product.signature = digest([cell.identity(), adapter])[:16]
    stored = stored_answers(workshop, cell, adapter)
    workshop.count_reused(ANSWERS, len(stored))
    missing = [asked for asked in workshop.sources.asked if asked.name not in stored]
    stored |= answer_missing(workshop, cell, last, adapter, missing)
    product.answers = {name: found.answers for name, found in stored.items()}
    product.answer_keys = {name: found.key for name, found in stored.items()}
    product.answering_seconds += sum(found.seconds for found in stored.values())


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
