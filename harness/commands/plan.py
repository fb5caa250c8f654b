"""What a comparison would do: its cells, what is stored already, and a forecast of time and disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median

from harness.config.settings import Request
from harness.experiment.answer import SECONDS, stored_answers
from harness.experiment.cell import ADAPTERS, ANSWERS, SCORES, TRAINING, Cell, scores_recipe
from harness.experiment.context import RunContext, build_context
from harness.experiment.stage_runner import cached_stages, stages_of, tasks_after
from harness.experiment.stages import Stage
from harness.experiment.train import Record, cell_resources
from harness.storage.digests import answers_digest
from harness.storage.store import Store

SECONDS_PER_CONVERSATION = 0.02
"""One pass over one training conversation of the miniature, measured on two cores; used until a run has measured."""
SECONDS_PER_QUESTION = 0.02
BYTES_PER_ADAPTER = 4_000_000
BYTES_PER_ANSWER = 400


@dataclass(frozen=True)
class PlannedCell:
    """One line of the plan.

    Args:
        title: The cell, or one stage of it.
        trained: Whether its training is stored; None where there is nothing to train.
        answered: Benchmarks whose answers are stored.
        asked: Benchmarks that are asked; before the last stage only the one about the new knowledge.
        scored: Benchmarks whose scores are stored.
        seconds: Forecast of what is missing.
        bytes: Forecast of what it adds on the disk.
    """

    title: str
    trained: bool | None
    answered: int
    asked: int
    scored: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Plan:
    """All lines, and where the forecast comes from."""

    cells: tuple[PlannedCell, ...]
    questions: int
    stored_bytes: int
    basis: str

    @property
    def seconds(self) -> float:
        """Forecast for the whole run."""
        return sum(cell.seconds for cell in self.cells)

    @property
    def bytes(self) -> int:
        """What the run would add on the disk."""
        return sum(cell.bytes for cell in self.cells)


@dataclass(frozen=True)
class Throughput:
    """What the machine needs for one unit of work; ``measured`` where earlier cells in the folder told."""

    conversation: float
    question: float
    adapter: int
    measured: bool


def plan(request: Request) -> Plan:
    """Look at the store; compute nothing but the training conversations of cells that are not trained.

    Raises:
        UserError: As ``compare``, which would not begin either.
    """
    context = build_context(request, say=lambda line: None)
    rates = measured_rates(context.store, context.settings.training.epochs)
    cells = tuple(line for cell in context.cells for line in _planned(context, cell, rates))
    basis = (
        "earlier cells in this folder"
        if rates.measured
        else "the miniature on two cores; nothing was measured here yet"
    )
    questions = sum(len(asked.questions) for asked in context.sources.asked)
    stored = context.store.size() if context.store.root.exists() else 0
    return Plan(cells, questions, stored, basis)


def measured_rates(store: Store, epochs: int) -> Throughput:
    """Medians over the cells in the store, or the defaults."""
    trainings = [record for record in store.all_json(TRAINING) if record.get("status") == "ok"]
    per_conversation = [
        record["cost"]["training_seconds"] / (record["conversations"] * epochs)
        for record in trainings
        if record["conversations"]
    ]
    answers = sum(len(rows) for rows in store.all_json(ANSWERS))
    answering = sum(store.all_json(SECONDS))
    sizes = [path.stat().st_size for path in store.root.glob(f"{ADAPTERS}/*.safetensors")]
    return Throughput(
        conversation=_median(per_conversation, SECONDS_PER_CONVERSATION),
        question=answering / answers if answers and answering else SECONDS_PER_QUESTION,
        adapter=int(_median(sizes, BYTES_PER_ADAPTER)),
        measured=bool(per_conversation),
    )


def _median(values: Iterable[float], default: float) -> float:
    found = list(values)
    return median(found) if found else default


def _planned(context: RunContext, cell: Cell, rates: Throughput) -> Iterator[PlannedCell]:
    """The untouched base or a cell trained at once in one line; one with several stages in a line for each."""
    if cell.settings is None:
        yield _line(context, cell, None, None, rates)
        return
    stored = cached_stages(context, cell)
    yield from (_line(context, cell, step, record, rates) for step, record in stored)
    if not stored or stored[-1][1]["status"] == "ok":
        for step in stages_of(context, cell)[len(stored) :]:
            yield _line(context, cell, step, None, rates)


def _line(context: RunContext, cell: Cell, step: Stage | None, record: Record | None, rates: Throughput) -> PlannedCell:
    ended_badly = record is not None and record["status"] != "ok"
    known = step is None or record is not None
    wanted = tasks_after(context, step) if step else context.sources.asked
    adapter = record["adapter"] if record else ""
    stored = stored_answers(context, cell, adapter, wanted) if known and not ended_badly else {}
    scored = sum(
        context.store.has(
            SCORES, scores_recipe(answers_digest(stored[each.name].answers), each.fingerprint, each.questions)
        )
        for each in wanted
        if each.name in stored
    )
    seconds, size = 0.0, 0
    if step is not None and record is None:
        conversations = cell.make().training_data(step.knowledge, cell_resources(context, step))
        seconds += len(conversations) * context.training_of(cell).epochs * rates.conversation
        size += rates.adapter
    if not ended_badly:
        missing = sum(len(each.questions) for each in wanted if each.name not in stored)
        seconds += missing * rates.question
        size += missing * BYTES_PER_ANSWER
    title, trained = (step.title, known) if step else (cell.title, None)
    return PlannedCell(title, trained, len(stored), len(wanted), scored, seconds, size)
