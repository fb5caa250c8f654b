"""How much memory each row of a run would need, forecast from its model's folder and its training data."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from benchmarks.errors import UserError
from harness.config.schema import Settings
from harness.console import print_lines, stdout
from harness.experiment.cell import Cell
from harness.experiment.context import RunContext, picture_options
from harness.experiment.resources import make_resources
from harness.experiment.stages import list_stages
from harness.training.hardware import compute_precision
from methods.memory import MemoryNeeds

if TYPE_CHECKING:
    from benchmarks.records import Conversation, Question
    from harness.models.base import LanguageVisionModel
    from harness.models.shapes import ModelSizes
    from harness.training.memory import Asked, Forecast, Machine, MicroBatch

UNITS = {"gib": 2**30, "gb": 10**9, "mib": 2**20, "mb": 10**6}
ENCODED = 2_000
"""Conversations, evenly spaced, whose lengths are counted, and questions of each benchmark."""
DRAWN = 64
"""Prompts whose lengths stand for those of all that statistics are measured on: a miniature draws their pictures."""
RESERVED = 0.9
"""Share of a card that tensors may take: the rest goes to its context, to kernels and to gaps between tensors."""


@dataclass(frozen=True)
class RowMemory:
    """The forecast of one row; None with a reason where there is none."""

    label: str
    forecast: Forecast | None
    reason: str = ""


@dataclass(frozen=True)
class MemoryPlan:
    """All rows, and what they are compared with.

    Attributes:
        rows: One for each row, whatever its seeds.
        device: ``cpu`` or ``cuda``, for which it is forecast.
        precision: How the frozen weights are stored.
        available: Bytes of the card; None if there is none.
        sampled: Whether only a part of the training data was counted.
    """

    rows: tuple[RowMemory, ...]
    device: str
    precision: str
    available: int | None
    sampled: bool

    def fits(self, row: RowMemory) -> bool | None:
        """Whether a row fits; None if that is not known."""
        if self.available is None or row.forecast is None:
            return None
        return row.forecast.peak <= RESERVED * self.available


def parse_memory(text: str | None) -> int | None:
    """Bytes of a size such as ``24GiB`` or ``80GB``.

    Raises:
        UserError: It is no size.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)\s*", text)
    unit = UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise UserError("this is no size", location=f"--memory {text}", hint="write --memory 24GiB or --memory 80GB")
    return int(float(match[1]) * unit)


def for_a_card(settings: Settings, memory: int | None) -> Settings:
    """The settings as they would be on a GPU, if its memory is given and this machine has none."""
    import torch

    if memory is None or settings.device != "auto" or torch.cuda.is_available():
        return settings
    precision = "bfloat16" if settings.precision == "auto" else settings.precision
    return settings.model_copy(update={"device": "cuda", "precision": precision})


def plan_memory(context: RunContext, memory: int | None = None) -> MemoryPlan:
    """Forecast every row, without loading a weight.

    Args:
        context: Of the run.
        memory: Bytes of the card; by default those of this machine's, if the run uses one.
    """
    settings = for_a_card(context.settings, memory)
    device = context.cache_inputs.device if settings.device == "auto" else settings.device
    stored = context.cache_inputs.precision if settings.precision == "auto" else settings.precision
    inputs = dataclasses.replace(context.cache_inputs, device=device, precision=stored)
    context = dataclasses.replace(context, cache_inputs=inputs)
    rows = {cell.label: cell for cell in context.cells if cell.answers_file is None}
    counter: _Counter | None = None
    forecasts: list[RowMemory] = []
    try:
        counter = _Counter.of(context)
        forecasts = [_row(context, cell, counter) for cell in rows.values()]
    except UserError as error:  # a plan of time and disk is of use without it
        forecasts = [RowMemory(label, None, f"{error.message} ({error.hint})") for label in rows]
    sampled = counter is not None and counter.sampled
    return MemoryPlan(tuple(forecasts), device, stored, memory or _card(device), sampled)


def show_memory(plan: MemoryPlan) -> None:
    """Print what each row needs, and whether it fits."""
    peaks = [row.forecast.peak for row in plan.rows if row.forecast]
    unit, scale = ("GiB", 2**30) if max(peaks, default=0) >= 4 * 2**30 else ("MiB", 2**20)
    names = ("weights", "method", "optimiser", "activations", "before", "answers", "peak")
    table = Table(f"memory, {unit}", *names, *(["fits"] if plan.available else []), box=None, pad_edge=False)
    for row in plan.rows:
        if row.forecast is None:
            continue
        parts = row.forecast
        numbers = (parts.weights, parts.trained + parts.statistics, parts.gradients + parts.optimizer)
        rest = (parts.activations, parts.preparation, parts.answering, parts.peak)
        verdict = ["yes" if plan.fits(row) else "no"] if plan.available else []
        table.add_row(Text(row.label), *(f"{each / scale:,.1f}" for each in numbers + rest), *verdict)
    stdout().print(table)
    where = "a GPU" if plan.device == "cuda" else "the CPU"
    card = f"; it fits if it takes at most {RESERVED:.0%} of {format_bytes(plan.available)}" if plan.available else ""
    print_lines(f"memory forecast for {where}, weights in {plan.precision}, one process of each cell{card}")
    if plan.sampled:
        print_lines(f"lengths of {ENCODED} evenly spaced conversations; a longer one may exist")
    for reason in dict.fromkeys(row.reason for row in plan.rows if row.reason):
        labels = ", ".join(row.label for row in plan.rows if row.reason == reason)
        print_lines(f"no memory forecast for {labels}: {reason}")


def format_bytes(count: float) -> str:
    """A number of bytes in binary units, as cards are sold."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _card(device: str) -> int | None:
    if device != "cuda":
        return None
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory) if torch.cuda.is_available() else None


@dataclass
class _Counter:
    """Lengths of inputs, each counted once."""

    model: LanguageVisionModel
    sizes: ModelSizes
    asked: Asked | None
    sampled: bool = False
    _known: dict[tuple[str, ...], tuple[int, int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, context: RunContext) -> _Counter:
        from harness.models.registry import describe_model
        from harness.models.shapes import model_sizes

        model = describe_model(context.settings.model, picture_options(context.settings.pictures))
        return cls(model, model_sizes(model), _largest_questions(context, model))

    def count(self, sample: Conversation) -> tuple[int, int, int]:
        """Tokens, supervised tokens and image tokens of a conversation."""
        key = (*(turn.text for turn in sample.turns), *(picture.sha256 for picture in sample.pictures))
        if key not in self._known:
            ids, labels = self.model.encode(sample)
            pictures = sum(map(self.model.picture_tokens, sample.pictures))
            self._known[key] = len(ids), sum(label >= 0 for label in labels), pictures
        return self._known[key]


def _largest_questions(context: RunContext, model: LanguageVisionModel) -> Asked | None:
    """The batch with the most tokens, over all benchmarks; it is full if so many questions are as long."""
    from harness.training.memory import Asked

    strides = [(task.questions, max(1, len(task.questions) // ENCODED)) for task in context.inputs.tasks]
    found = [(*_lengths(question, model), stride) for questions, stride in strides for question in questions[::stride]]
    batches, count = [], 0
    for width, new, stride in sorted(found, key=lambda each: -sum(each[:2])):
        count += stride
        batches.append(Asked(min(context.cache_inputs.batch_size, count), width, new))
    return max(batches, key=lambda batch: batch.rows * (batch.width + batch.new), default=None)


def _lengths(question: Question, model: LanguageVisionModel) -> tuple[int, int]:
    """Tokens of the first prompt, and of all that can follow: answers, and further turns."""
    width = model.prompt_length(question.turns[:1], question.pictures, question.template)
    whole = model.prompt_length(question.open_dialogue, question.pictures, question.template)
    return width, whole - width + len(question.turns) * question.max_new_tokens


def _row(context: RunContext, cell: Cell, counter: _Counter) -> RowMemory:
    from harness.training.memory import forecast

    needs, batch, prompts = MemoryNeeds(0), None, []
    if cell.settings is not None and (method := cell.make()).trains:
        try:
            shapes = counter.sizes.shapes
            adapted = shapes.only(method.adapted(shapes.linears))
            needs = method.memory_needs(adapted)
        except TypeError as error:
            return RowMemory(cell.label, None, f"{error} (override memory_needs as well)")
        if needs.trains_base and context.cache_inputs.precision == "nf4":
            return RowMemory(cell.label, None, "quantised weights cannot be trained")
        if adapted is not shapes:
            needs = dataclasses.replace(needs, adapted=adapted)
        batch, prompts = _largest_batch(context, cell, counter), _prompts(context, cell, counter, needs.prompts)
    machine = _machine(context, cell, trains_base=needs.trains_base)
    return RowMemory(cell.label, forecast(counter.sizes, needs, machine, batch, counter.asked, prompts))


def _largest_batch(context: RunContext, cell: Cell, counter: _Counter) -> MicroBatch | None:
    """The largest micro-batch of one process, of any stage."""
    from harness.training.conversation_batches import length_grouped
    from harness.training.memory import largest_micro_batch

    settings, batches = context.training_of(cell), []
    for stage in list_stages(context, cell):
        samples = cell.make().training_data(stage.knowledge, make_resources(context, stage))
        counter.sampled |= len(samples) > ENCODED
        counts = [counter.count(sample) for sample in samples[:: max(1, -(-len(samples) // ENCODED))]]
        if not counts:
            continue
        lengths, supervised, pictures = (list(column) for column in zip(*counts, strict=True))
        steps = [
            rows[:: context.cache_inputs.processes]
            for epoch in range(settings.epochs)
            for rows in length_grouped(lengths, settings.batch_size, stage.seed * 1_000_003 + epoch)
        ]
        batches.append(largest_micro_batch(steps, lengths, supervised, pictures, settings.micro_batch))
    return max(batches, key=lambda batch: batch.rows * batch.width, default=None)


def _prompts(context: RunContext, cell: Cell, counter: _Counter, number: int) -> list[int]:
    """Tokens of each prompt that the method's statistics are measured on; those of a sample, repeated."""
    if not number:
        return []
    method, resources = cell.make(), make_resources(context, list_stages(context, cell)[0])
    if method.evaluation_inputs:
        samples = resources.benchmark_prompts(method.evaluation_inputs[0], min(number, DRAWN))
    else:
        samples = resources.pool_samples(min(number, DRAWN), "calibration")
    lengths = [counter.model.prompt_length([sample.turns[0].text], sample.pictures) for sample in samples]
    return [lengths[place % len(lengths)] for place in range(number)] if lengths else []


def _machine(context: RunContext, cell: Cell, *, trains_base: bool) -> Machine:
    from harness.training.memory import Machine

    inputs, training = context.cache_inputs, context.training_of(cell)
    processes, sharding = inputs.processes, inputs.sharding
    return Machine(
        device=inputs.device,
        stored=inputs.precision,
        computed=compute_precision(inputs.device, inputs.precision),
        optimizer=training.optimizer,
        checkpointing=training.gradient_checkpointing,
        shards=processes if sharding in ("fsdp", "zero3") else 1,
        moment_shards=processes if sharding.startswith("zero") or (sharding == "fsdp" and trains_base) else 1,
        copies=processes,
    )
