"""Which engine answers for a row: vLLM where it can serve the row and answers alike, otherwise the built-in one.

What was found is stored, because a stored answer is found by the engine that really gave it.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING

from benchmarks.records import Question
from harness.config.extras import BUILTIN, VLLM, vllm_version
from harness.data.answering import engine_asked_for
from harness.data.inputs import BenchmarkTask
from harness.experiment.asking import Asker
from harness.experiment.cell import Cell
from harness.experiment.context import RunContext, picture_options
from harness.experiment.method_files import PACKAGE_ROOT
from harness.experiment.stages import Stage, tasks_after
from harness.storage.digests import digest, questions_digest
from harness.storage.source_code import code_digest
from harness.storage.store import CacheKey, Store
from reports.record import Answering

if TYPE_CHECKING:
    from harness.models.batched_generation import Generator
    from harness.serving.engine import ServedEngine
    from harness.serving.generator import VllmGenerator

logger = logging.getLogger(__name__)

ENGINES = "engines"
"""The kind of entry that says which engine answers for a row."""
COMPARED = 64
"""Questions that both engines answer before one of them answers for a row."""


class FellBack(Exception):
    """It was found just now that the built-in engine answers."""


def answering_of(context: RunContext, cell: Cell, stage: Stage | None) -> Answering | None:
    """Which engine answers for a row, if that is known; None if vLLM is asked for and was not tried yet."""
    entry = answering_entry(context, cell, stage)
    return answering_by_id(context.store, entry) if entry else Answering()


def answering_entry(context: RunContext, cell: Cell, stage: Stage | None) -> str:
    """The id of the entry that says which engine answers for a row; empty where only the built-in one is asked for."""
    asked_for = context.settings.answering.engine != BUILTIN and cell.answers_file is None
    return digest(_key(context, cell, stage)) if asked_for else ""


def answering_by_id(store: Store, entry_id: str) -> Answering | None:
    """What the entry with this id says; None if it is missing or damaged."""
    entry = store.read_by_id(ENGINES, entry_id) if entry_id else None
    return None if entry is None else Answering(**entry[0])


def engine_key(context: RunContext, cell: Cell, stage: Stage | None) -> CacheKey | None:
    """What the cache key of answers says of another engine than the built-in one; None for that."""
    answering = answering_of(context, cell, stage)
    return None if answering is not None and answering.engine == BUILTIN else _identity()


@contextmanager
def generator_of(context: RunContext, cell: Cell, stage: Stage | None) -> Iterator[Generator | None]:
    """The engine that answers for a row within the block; None for the built-in one.

    The row's adapter must be attached. If nothing is known of the row yet, both engines are compared first.

    Raises:
        FellBack: vLLM cannot serve the row, or answers otherwise. This is stored now.
        GeneratorEnded: vLLM's process has ended.
    """
    known = answering_of(context, cell, stage)
    if known is not None and known.engine == BUILTIN:
        yield None
        return
    from harness.serving.engine import CannotServe, EngineFailed
    from harness.serving.generator import VllmGenerator

    title, name = stage.title if stage else cell.title, engine_asked_for(context.settings)
    with ExitStack() as stack:
        try:
            logger.info("%s: starting %s", title, name)
            asked = _asked(context, stage)
            generator = VllmGenerator(context.model, stack.enter_context(_engine(context, asked)))
            answering = known or _compare(context, stage, asked, generator, name)
        except (CannotServe, EngineFailed) as error:
            if known is not None:  # part of the row may be answered by vLLM already
                raise
            answering = Answering(reason=error.message.replace(str(context.settings.model), "the model"))
        if known is None:
            context.store.write_json(ENGINES, _key(context, cell, stage), asdict(answering))
            compared = f"{answering.differing} of {answering.compared} answers differ from the built-in engine's"
            logger.info("%s: %s", title, answering.reason or compared)
        if answering.engine == BUILTIN:
            logger.warning("%s: the built-in engine answers, not %s: %s", title, name, answering.reason)
            raise FellBack
        yield generator


@contextmanager
def _engine(context: RunContext, asked: Mapping[str, Sequence[Question]]) -> Iterator[ServedEngine]:
    """An engine with the base and what is attached to it, for these questions.

    Raises:
        CannotServe: There can be none.
    """
    from harness.serving.adapter import find_obstacle, served_adapter
    from harness.serving.engine import CannotServe, ServedEngine
    from harness.serving.spec import engine_spec

    longest = _longest(context, asked)
    reason = _obstacle(context, longest) or find_obstacle(context.model, context.base_digest)
    if reason:
        raise CannotServe(reason, location="answering.engine=vllm", hint="use the built-in engine")
    scratch = context.store.scratch("served", str(os.getpid()))  # other workers have engines of their own
    adapter, batch_size = served_adapter(context.model), context.cache_inputs.batch_size
    spec = engine_spec(context.model, context.settings.model, batch_size, longest, adapter, scratch)
    try:
        with ServedEngine(spec, scratch / "vllm.log") as engine:
            yield engine
    finally:
        if spec.adapter is not None:
            shutil.rmtree(spec.adapter)


def _obstacle(context: RunContext, longest: int) -> str:
    from harness.serving.spec import exceeds_window, has_plain_positions

    if context.cache_inputs.precision == "nf4":
        return "the base is quantised (precision=nf4), in which vLLM would compute otherwise"
    if exceeds_window(context.model, longest) and not has_plain_positions(context.model):
        return f"a prompt with its answer may have {longest} tokens, and the model's positions end before"
    return ""


def _longest(context: RunContext, asked: Mapping[str, Sequence[Question]]) -> int:
    """The most tokens that the turns and answers of a question may have together."""
    model, longest = context.model, 0
    for task in context.inputs.tasks:
        with model.pictures_as(picture_options(task.pictures)):
            for question in asked.get(task.name, ()):
                turns = question.open_dialogue
                prompt = model.prompt_length(turns, question.pictures, question.template)
                longest = max(longest, prompt + len(turns) + len(question.turns) * question.max_new_tokens)
    return longest


def _asked(context: RunContext, stage: Stage | None) -> dict[str, tuple[Question, ...]]:
    """All questions of a row by benchmark, as it asks them."""
    asker, tasks = Asker(context, stage), _tasks(context, stage)
    return {task.name: asker.ask(task) if asker.changes_questions else task.questions for task in tasks}


def _compare(
    context: RunContext,
    stage: Stage | None,
    asked: Mapping[str, Sequence[Question]],
    generator: VllmGenerator,
    name: str,
) -> Answering:
    """Have both engines answer questions of several kinds."""
    from harness.serving.parity import compare_engines

    pictures = {task.name: picture_options(task.pictures) for task in _tasks(context, stage)}
    ids = {task: {question.id for question in chosen} for task, chosen in _chosen(context, stage).items()}
    samples = [(pictures[task], [each for each in asked[task] if each.id in ids[task]]) for task in ids]
    parity = compare_engines(
        context.model,
        generator,
        samples,
        context.cache_inputs.batch_size,
        exact=context.dtype == "float32",
    )
    return Answering(BUILTIN if parity.problem else name, parity.problem, parity.asked, parity.differing)


def _tasks(context: RunContext, stage: Stage | None) -> tuple[BenchmarkTask, ...]:
    return tasks_after(context, stage) if stage else context.inputs.tasks


def _chosen(context: RunContext, stage: Stage | None) -> dict[str, list[Question]]:
    return choose_questions({task.name: task.questions for task in _tasks(context, stage)})


def choose_questions(tasks: Mapping[str, Sequence[Question]], number: int = COMPARED) -> dict[str, list[Question]]:
    """Questions of several kinds: of each benchmark, with each number of turns and pictures, in turn.

    Returns:
        At most ``number`` of them, by benchmark and in its order.
    """
    kinds: dict[tuple[str, int, int], list[Question]] = {}
    for name, questions in tasks.items():
        for question in questions:
            kinds.setdefault((name, len(question.turns), len(question.pictures)), []).append(question)
    in_turn = [
        (name, question)
        for place in range(max(map(len, kinds.values()), default=0))
        for (name, _, _), questions in kinds.items()
        for question in questions[place : place + 1]
    ]
    chosen = {(name, question.id) for name, question in in_turn[:number]}
    found = {name: [each for each in questions if (name, each.id) in chosen] for name, questions in tasks.items()}
    return {name: questions for name, questions in found.items() if questions}


def _key(context: RunContext, cell: Cell, stage: Stage | None) -> CacheKey:
    """The cache key of which engine answers for a row."""
    asker, inputs = Asker(context, stage), context.cache_inputs
    chosen = _chosen(context, stage)
    return {
        **cell.identity(),
        "engine": _identity(),
        "adapter": stage.adapter if stage else "",
        "base": inputs.base,
        "questions": {name: questions_digest(questions) for name, questions in chosen.items()},
        "asked": [digest(asker.key(task)) for task in _tasks(context, stage)],
        "pictures": [task.pictures.model_dump() for task in _tasks(context, stage)],
        "batch_size": inputs.batch_size,
        "device": inputs.device,
        "precision": inputs.precision,
        "core": code_digest(PACKAGE_ROOT / "experiment/answering_engine.py"),
    }


@cache
def _identity() -> dict[str, str]:
    code = code_digest(*sorted((PACKAGE_ROOT / "serving").glob("*.py")))
    return {"name": VLLM, "version": vllm_version(), "code": code}
