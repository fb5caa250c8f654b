"""What the model can take, checked for every prompt and training row before anything is trained or asked.

Tokens are counted with the model's own tokenizer and image processor, without its weights. Nothing is cut anywhere:
what is longer than the window is refused, or, if the settings allow it, used at full length and counted in the notes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from benchmarks.data.json_rows import MAX_LISTED
from benchmarks.errors import UserError, first_line
from benchmarks.records import Conversation, Picture, Question
from harness.data.inputs import BenchmarkTask
from harness.experiment.cell import Cell
from harness.experiment.context import RunContext, picture_options
from harness.experiment.method_files import core_digest
from harness.experiment.resources import make_resources
from harness.experiment.stages import Stage, list_stages
from harness.storage.digests import digest, knowledge_digest, questions_digest

if TYPE_CHECKING:
    from harness.models.base import LanguageVisionModel

logger = logging.getLogger(__name__)

LENGTHS = "lengths"
"""The kind of entry with what is too long for the model's window."""


@dataclass(frozen=True)
class TooLong:
    """A prompt or a training row that does not fit into the window.

    Args:
        name: Id of the question or conversation.
        tokens: Of the prompt, or of the whole row.
    """

    name: str
    tokens: int

    def __str__(self) -> str:
        return f"{self.name}: {self.tokens:,} tokens"


@dataclass(frozen=True)
class Counted:
    """The questions of one benchmark, or the training rows of one row of the tables at one seed.

    Args:
        title: The benchmark or the row.
        unit: "question" or "conversation".
        total: How many there are.
        too_long: Those that do not fit.
        window: Tokens that the model reads; None if its configuration does not say.
        pictures: What the image processor refuses: place, file and reason.
        allowed: Whether the settings allow texts that do not fit.
        error: Why the training rows cannot be made; empty if they can.
    """

    title: str
    unit: str
    total: int
    too_long: tuple[TooLong, ...]
    window: int | None
    pictures: tuple[str, ...] = ()
    allowed: bool = False
    error: str = ""

    def lines(self) -> list[str]:
        """One line for each text that does not fit."""
        return [f"{self.title}, {self.unit} {each}" for each in self.too_long]

    def note(self) -> str:
        """How many do not fit, for the run's notes; empty if all do."""
        if not self.too_long:
            return ""
        use = "asked" if self.unit == "question" else "trained on"
        return (
            f"{self.title}: {len(self.too_long):,} of {self.total:,} {self.unit}s are longer than the model's window "
            f"of {self.window:,} tokens; they are {use} at full length, the longest with "
            f"{max(each.tokens for each in self.too_long):,} tokens."
        )


def count_limits(context: RunContext) -> list[Counted]:
    """Each benchmark's questions and each trained row's conversations, counted once and stored.

    Empty for a model that cannot be used: each row then fails for that reason.
    """
    try:
        return list(_count(context))
    except UserError as error:
        logger.info("what the model can take is not known: %s", first_line(error))
        return []


def _count(context: RunContext) -> Iterator[Counted]:
    counter = _Counter(context)
    yield from map(counter.questions, context.inputs.tasks)
    for cell in context.cells:
        if cell.has_adapter and cell.scale is None and cell.make().trains:
            yield from counter.rows(cell)


def check_limits(context: RunContext) -> None:
    """Refuse a run with training data that cannot be made, or with pictures or texts that the model cannot take.

    Raises:
        UserError: Names the first 20 with benchmark or row, id, tokens and window, or with the picture's file, or the
            rows of the tables with what their data need.
    """
    counted = count_limits(context)
    errors = [f"{each.title}: {each.error}" for each in counted if each.error]
    if errors:
        raise UserError(
            f"the training data of {len(errors)} rows cannot be made:{_listed(errors)}",
            location="training data of this run",
            hint="correct the settings, or leave these rows out; nothing was computed",
        )
    pictures = list(dict.fromkeys(line for each in counted for line in each.pictures))
    if pictures:
        raise UserError(
            f"the model's image processor refuses {len(pictures)} pictures:{_listed(pictures)}",
            location="pictures of this run",
            hint="crop these pictures, or delete their rows; nothing was computed",
        )
    refused = [each for each in counted if each.too_long and not each.allowed]
    if not refused:
        return
    lines = [line for each in refused for line in each.lines()]
    settings = sorted({f"{'answering' if each.unit == 'question' else 'training'}.allow_long=true" for each in refused})
    raise UserError(
        f"{len(lines):,} texts are longer than the model's window of {refused[0].window:,} tokens:{_listed(lines)}",
        location="questions and training data of this run",
        hint=f"shorten or delete them, use a model that reads more, or set {' and '.join(settings)} to use them at "
        "full length; nothing was computed",
    )


def limit_lines(context: RunContext) -> tuple[str, ...]:
    """For the plan: what ``check_limits`` would refuse, and what the settings allow."""
    counted = count_limits(context)
    lines = [line for each in counted if not each.allowed for line in each.lines()]
    pictures = list(dict.fromkeys(line for each in counted for line in each.pictures))
    refused = []
    if lines:
        window = next(each.window for each in counted if each.too_long)
        refused.append(
            f"compare refuses {len(lines):,} texts beyond the model's window of {window:,} tokens:{_listed(lines)}"
        )
    if pictures:
        refused.append(f"compare refuses {len(pictures)} pictures:{_listed(pictures)}")
    return (*refused, *(each.note() for each in counted if each.allowed and each.too_long))


def limit_notes(context: RunContext) -> tuple[str, ...]:
    """For the run's notes: how much is used though it is too long; none unless the settings allow it."""
    allowed = context.settings.answering.allow_long or context.settings.training.allow_long
    return tuple(dict.fromkeys(filter(None, (each.note() for each in count_limits(context))))) if allowed else ()


def long_questions(model: LanguageVisionModel, questions: Sequence[Question]) -> list[TooLong]:
    """The questions whose prompt leaves no room for an answer in the model's window.

    All turns count; what the model answers between them is not known before and does not. Neither does the limit of new
    tokens: VLMEvalKit's 2,048 are seldom needed, and half of LLaVA-1.5's window.
    """
    from harness.models.context_window import context_window

    window, found = context_window(model), []
    for question in questions if window else ():
        tokens = model.prompt_length(question.open_dialogue, question.pictures, question.template)
        if tokens >= (window or 0):
            found.append(TooLong(question.id, tokens))
    return found


def _listed(lines: Sequence[str]) -> str:
    shown = "".join(f"\n  {line}" for line in lines[:MAX_LISTED])
    return shown + (f"\n  and {len(lines) - MAX_LISTED:,} more" if len(lines) > MAX_LISTED else "")


class _Counter:
    """Counts what the store does not say yet; the model is described only if something is left to count."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._tokens: dict[tuple[str, ...], int] = {}
        """Of each conversation by its content: rows often share their data."""
        self._key = {
            "base": context.cache_inputs.base,
            "code": core_digest("experiment/limits.py"),
        }

    @cached_property
    def _model(self) -> LanguageVisionModel:
        from harness.models.registry import describe_model

        return describe_model(self._context.settings.model, picture_options(self._context.settings.pictures))

    def questions(self, task: BenchmarkTask) -> Counted:
        """The questions of a benchmark, with its own picture processing."""
        own = None if task.pictures == self._context.settings.pictures else picture_options(task.pictures)
        key = {**self._key, "questions": questions_digest(task.questions), "pictures": task.pictures.model_dump()}
        allowed = self._context.settings.answering.allow_long
        if (stored := self._stored(key)) is not None:
            return self._counted(task.name, "question", stored, allowed)
        with self._model.pictures_as(own):
            places = ((picture, f"{task.name}, question {q.id}") for q in task.questions for picture in q.pictures)
            pictures = tuple(self._refused_pictures(places))
            found = [] if pictures else long_questions(self._model, task.questions)
        return self._counted(task.name, "question", self._entry(len(task.questions), found), allowed, pictures, key)

    def rows(self, cell: Cell) -> Iterator[Counted]:
        """The training data of each stage of a cell."""
        allowed = self._context.settings.training.allow_long
        for stage in list_stages(self._context, cell):
            key = {
                **self._key,
                "training": digest(cell.training_key(self._context.cache_inputs)),
                "stage": [stage.number, stage.count, knowledge_digest(stage.knowledge)],
            }
            if (stored := self._stored(key)) is not None:
                yield self._counted(stage.title, "conversation", stored, allowed)
                continue
            try:
                samples = self._training_data(stage)
            except UserError as error:
                yield Counted(stage.title, "conversation", 0, (), None, error=first_line(error))
                continue
            if samples is None:
                continue
            places = ((picture, f"{stage.title}, conversation {s.id}") for s in samples for picture in s.pictures)
            pictures = tuple(self._refused_pictures(places))
            found = [] if pictures else self._long_rows(samples)
            entry = self._entry(len(samples), found)
            yield self._counted(stage.title, "conversation", entry, allowed, pictures, key)

    def _training_data(self, stage: Stage) -> Sequence[Conversation] | None:
        """The training data of a stage; None if the method's code fails, which will fail its row alone.

        Raises:
            UserError: The settings ask for what is not there, such as more samples than a pool has. Only for the first
                stage: what a later one needs of the stage before is not known yet.
        """
        try:
            return stage.cell.make().training_data(stage.knowledge, make_resources(self._context, stage))
        except Exception as error:
            if isinstance(error, UserError) and stage.number == 1:
                raise
            logger.info("%s: its training data cannot be checked: %s", stage.title, first_line(error))
            return None

    def _long_rows(self, samples: Sequence[Conversation]) -> list[TooLong]:
        from harness.models.context_window import context_window

        window = context_window(self._model)
        if window is None:
            return []
        return [TooLong(sample.id, tokens) for sample in samples if (tokens := self._length(sample)) > window]

    def _length(self, sample: Conversation) -> int:
        key = (*(turn.text for turn in sample.turns), *(picture.sha256 for picture in sample.pictures))
        if key not in self._tokens:
            self._tokens[key] = self._model.prompt_length([turn.text for turn in sample.turns], sample.pictures)
        return self._tokens[key]

    def _refused_pictures(self, places: Iterator[tuple[Picture, str]]) -> Iterator[str]:
        """A line for each distinct picture that the image processor does not take."""
        seen: set[str] = set()
        for picture, place in places:
            if picture.sha256 in seen:
                continue
            seen.add(picture.sha256)
            try:
                self._model.picture_tokens(picture)
            except UserError as error:
                file = error.location if isinstance(picture.source, bytes) else picture.source
                yield f"{place}: {file}: {error.message}"

    def _stored(self, key: dict[str, Any]) -> dict[str, Any] | None:
        entry: dict[str, Any] | None = self._context.store.read_json(LENGTHS, key)
        return entry

    def _entry(self, total: int, found: Sequence[TooLong]) -> dict[str, Any]:
        from harness.models.context_window import context_window

        rows = [[each.name, each.tokens] for each in found]
        return {"total": total, "window": context_window(self._model), "too_long": rows}

    def _counted(
        self,
        title: str,
        unit: str,
        entry: dict[str, Any],
        allowed: bool,
        pictures: tuple[str, ...] = (),
        key: dict[str, Any] | None = None,
    ) -> Counted:
        """What an entry says; stored under ``key`` if one is given and no picture is refused."""
        if key is not None and not pictures:
            self._context.store.write_json(LENGTHS, key, entry)
        too_long = tuple(TooLong(*row) for row in entry["too_long"])
        return Counted(title, unit, entry["total"], too_long, entry["window"], pictures, allowed)
