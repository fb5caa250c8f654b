"""What a comparison would compute: its cells, what is stored already, and a forecast of time and disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from rich.table import Table
from rich.text import Text

from harness.commands.memory import MemoryPlan, parse_memory, plan_memory, show_memory
from harness.config.settings import Request
from harness.console import print_lines, stdout
from harness.data.answering import answering_notes
from harness.data.reference_notes import reference_notes
from harness.data.row_accounts import row_accounts, unmatched_questions
from harness.experiment.answer import SECONDS, stored_answers
from harness.experiment.answerers import forecast_answerers
from harness.experiment.cell import ADAPTERS, ANSWERS, SCORES, TRAINING, Cell, scores_key
from harness.experiment.context import RunContext, build_context
from harness.experiment.imported_answers import with_imported
from harness.experiment.limits import limit_lines
from harness.experiment.resources import make_resources
from harness.experiment.stages import Stage, cached_stages, list_stages, tasks_after
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
        asked: Benchmarks that are asked; before the last stage only the one on the new knowledge.
        scored: Benchmarks whose scores are stored.
        seconds: Forecast of what is missing.
        bytes: Forecast of what that adds on the disk.
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
    """All lines, and what the forecast is based on."""

    cells: tuple[PlannedCell, ...]
    questions: int
    stored_bytes: int
    basis: str
    pools: tuple[str, ...] = ()
    """A line for each pool of samples: what it holds."""
    answering: tuple[str, ...] = ()
    """How the benchmarks of published size are asked."""
    answerers: tuple[str, ...] = ()
    """A line for each model behind an endpoint: what is left to ask it."""
    limits: tuple[str, ...] = ()
    """What exceeds the model's limits, and what is wrong with references."""
    rows: tuple[str, ...] = ()
    """A line for each file: the rows that it has, and those that are used."""
    memory: MemoryPlan | None = None
    """What each row needs in memory."""

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
    """Seconds for one conversation and one question, bytes of one adapter."""

    conversation: float
    question: float
    adapter: int
    measured: bool
    """Whether earlier cells in the folder were measured; else these are defaults."""


def plan(request: Request, memory: str | None = None) -> Plan:
    """Look into the store; compute nothing but training conversations.

    Args:
        request: What would be compared.
        memory: Size of the card, such as ``24GiB``; by default that of this machine's.

    Raises:
        UserError: As ``compare``, which could not start either.
    """
    available = parse_memory(memory)
    context = build_context(with_imported(request))
    rates = measured_rates(context.store, context.settings.training.epochs)
    cells = tuple(line for cell in context.cells for line in _planned(context, cell, rates))
    default = "the miniature on two cores; nothing was measured here yet"
    questions = sum(len(task.questions) for task in context.inputs.tasks)
    stored = context.store.size() if context.store.root.exists() else 0
    pools = context.inputs.pools
    return Plan(
        cells,
        questions,
        stored,
        "earlier cells in this folder" if rates.measured else default,
        (f"calibration pool: {pools.calibration.description}", f"replay pool: {pools.replay.description}"),
        answering_notes(context.settings),
        tuple(map(str, forecast_answerers(context))),
        (*reference_notes(context.inputs.tasks), *unmatched_questions(context.inputs), *limit_lines(context)),
        tuple(map(str, row_accounts(context.inputs, context.settings.limit))),
        plan_memory(context, available),
    )


def show_plan(plan: Plan) -> None:
    """Print the cells, what is stored, and the forecast."""
    table = Table("cell", "trained", "answered", "scored", "time", "disk", box=None, pad_edge=False)
    for cell in plan.cells:
        trained = "-" if cell.trained is None else "yes" if cell.trained else "no"
        counts = [f"{number} of {cell.asked}" for number in (cell.answered, cell.scored)]
        table.add_row(Text(cell.title), trained, *counts, _duration(cell.seconds), _size(cell.bytes))
    stdout().print(table)
    print_lines(
        *plan.rows,
        *plan.pools,
        f"{plan.questions} questions for each cell",
        f"still to do: {_duration(plan.seconds)}, {_size(plan.bytes)} on the disk; stored: {_size(plan.stored_bytes)}",
        f"forecast from {plan.basis}",
        *plan.answerers,
        *plan.answering,
        *plan.limits,
    )
    if plan.memory:
        show_memory(plan.memory)


def measured_rates(store: Store, epochs: int) -> Throughput:
    """Medians over the cells in the store, or the defaults; ``epochs`` are those of records that do not say theirs."""
    trainings = [record for record in store.all_json(TRAINING) if record.get("status") == "ok"]
    per_conversation = [
        record["cost"]["training_seconds"] / (record["conversations"] * record.get("epochs", epochs))
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


def _median(values: Sequence[float], default: float) -> float:
    return median(values) if values else default


def _planned(context: RunContext, cell: Cell, rates: Throughput) -> Iterator[PlannedCell]:
    """One line for the untouched base, for answers from elsewhere, and for each stage of a cell that is reached."""
    if not cell.has_adapter:
        yield _line(context, cell, None, rates)
        return
    stages = cached_stages(context, cell)
    if not stages or stages[-1].status == "ok":
        stages += list_stages(context, cell)[len(stages) :]
    yield from (_line(context, cell, stage, rates) for stage in stages)


def _line(context: RunContext, cell: Cell, stage: Stage | None, rates: Throughput) -> PlannedCell:
    store, seconds, size = context.store, 0.0, 0
    tasks = tasks_after(context, stage) if stage else context.inputs.tasks
    trained = None if stage is None else bool(stage.status)
    stopped = stage is not None and stage.status not in ("", "ok")
    stored = {} if stopped or trained is False else stored_answers(context, cell, stage, tasks)
    keys = [
        scores_key(stored[task.name].answers, task.fingerprint, task.questions) for task in tasks if task.name in stored
    ]
    if stage is not None and not trained and cell.make().trains:
        conversations = cell.make().training_data(stage.knowledge, make_resources(context, stage))
        seconds += len(conversations) * context.training_of(cell).epochs * rates.conversation
        size += rates.adapter
    if not stopped:
        missing = sum(len(task.questions) for task in tasks if task.name not in stored)
        seconds += missing * rates.question
        size += missing * BYTES_PER_ANSWER
    scored = sum(store.has(SCORES, key) for key in keys)
    return PlannedCell((stage or cell).title, trained, len(stored), len(tasks), scored, seconds, size)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
