"""Have a cell's model answer benchmarks; every answer is on disk before the next batch starts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.records import Answer, Question
from harness.console import progress
from harness.data.answers_file import read_answers
from harness.data.inputs import BenchmarkTask
from harness.experiment.answering_engine import FellBack, engine_key, generator_of
from harness.experiment.asking import ASKED, Asker, asked_rows
from harness.experiment.cell import ADAPTERS, ANSWERS, Cell, given_key
from harness.experiment.context import IntegrityError, RunContext, picture_options
from harness.experiment.finite_logits import only_finite_logits
from harness.experiment.outputs import AnswerSet
from harness.experiment.stages import Stage
from harness.storage.digests import digest
from harness.storage.store import CacheKey, Store

if TYPE_CHECKING:
    import torch

SECONDS = "seconds"
"""The kind of entry with the time that answers took, stored apart so that equal answers stay equal."""
PROBE_ITEMS = 4
"""Knowledge items on which the probe compares logits."""


def stored_answers(
    context: RunContext, cell: Cell, stage: Stage | None, tasks: Sequence[BenchmarkTask]
) -> dict[str, AnswerSet]:
    """The answers that are stored and intact, by benchmark. ``stage`` is None for the untouched base."""
    stored = {}
    for task, key in _keys(context, cell, stage, tasks):
        rows = context.store.read_json(ANSWERS, key)
        if rows is not None:
            seconds = float(context.store.read_json(SECONDS, key) or 0.0)
            stored[task.name] = AnswerSet([_answer(row) for row in rows], seconds, digest(key))
    return stored


def are_answered(context: RunContext, cell: Cell, stage: Stage | None, tasks: Sequence[BenchmarkTask]) -> bool:
    """Whether all answers are stored; they are verified only when read."""
    return all(context.store.has(ANSWERS, key) for _, key in _keys(context, cell, stage, tasks))


def answers_by_id(store: Store, entry_id: str) -> AnswerSet | None:
    """The stored answers with this id, or None if they are missing or damaged."""
    entry = store.read_by_id(ANSWERS, entry_id)
    return None if entry is None else AnswerSet([_answer(row) for row in entry[0]], entry_id=entry_id)


def get_answers(
    context: RunContext, cell: Cell, stage: Stage | None, tasks: Sequence[BenchmarkTask]
) -> dict[str, AnswerSet]:
    """Return the stored answers, and have the model give those that are missing. Only the main process gets them.

    Args:
        context: What the cells share.
        cell: The cell.
        stage: The stage whose adapter answers; None for the untouched base.
        tasks: The benchmarks.

    Raises:
        IntegrityError: The adapter changes no logit, or the base has changed afterwards.
        UserError: The cell's answers come from a file, which does not answer the questions of the run.
    """
    group = context.process_group
    stored = stored_answers(context, cell, stage, tasks) if group.is_main_process else {}
    context.count_reused(ANSWERS, len(stored))
    for _, key in _keys(context, cell, stage, [task for task in tasks if task.name in stored]):
        _discard_journals(context.store, key)  # a kill just after the answers were written leaves them
    names = group.broadcast_from_main(lambda: [task.name for task in tasks if task.name not in stored])
    missing = [task for task in tasks if task.name in names]
    keys = {task.name: key for task, key in _keys(context, cell, stage, missing)}
    if cell.answers_file is not None:
        with group.synchronized():
            return stored | _take(context, cell, missing) if missing and group.is_main_process else stored
    # Benchmarks with exactly the same questions are asked once.
    distinct = {digest(keys[task.name]): task for task in missing}
    try:
        asked = _ask(context, cell, stage, list(distinct.values()), keys) if distinct else {}
    except FellBack:  # the answers have other keys than was expected
        return get_answers(context, cell, stage, tasks)
    if not group.is_main_process:
        return {}
    for name, questions in asked.items():  # before the answers: where those are stored, nothing is asked again
        context.store.write_json(ASKED, keys[name], asked_rows(questions))
    new = {entry_id: _finalize(context, task, keys[task.name]) for entry_id, task in distinct.items()}
    return stored | {name: new[digest(key)] for name, key in keys.items()}


def _keys(
    context: RunContext, cell: Cell, stage: Stage | None, tasks: Sequence[BenchmarkTask]
) -> Iterator[tuple[BenchmarkTask, CacheKey]]:
    adapter = stage.adapter if stage else ""
    asker = Asker(context, stage)
    engine = engine_key(context, cell, stage)
    for task in tasks:
        if cell.answers_file is not None:
            yield task, given_key(cell, task.name, task.questions)
            continue
        own = None if task.pictures == context.settings.pictures else task.pictures.model_dump()
        yield task, cell.answers_key(context.cache_inputs, adapter, task.questions, own, asker.key(task), engine)


def _take(context: RunContext, cell: Cell, tasks: Sequence[BenchmarkTask]) -> dict[str, AnswerSet]:
    """Store the answers to these benchmarks from the cell's file, once all of it fits the questions of the run."""
    if cell.answers_file is None:
        raise ValueError(f"{cell.title} has no file with answers")
    given = read_answers(cell.answers_file, context.inputs.tasks)
    taken = {}
    for task, key in _keys(context, cell, None, tasks):
        rows = context.store.write_json(ANSWERS, key, [_row(each) for each in given[task.name]])
        taken[task.name] = AnswerSet([_answer(row) for row in rows], entry_id=digest(key))
    return taken


def _ask(
    context: RunContext,
    cell: Cell,
    stage: Stage | None,
    tasks: Sequence[BenchmarkTask],
    keys: Mapping[str, CacheKey],
) -> dict[str, tuple[Question, ...]]:
    """Have every question answered that is in no journal; each process answers its share of the batches.

    Returns:
        The questions as they were asked, by benchmark, if the row has its own way of asking.
    """
    from harness.models.batched_generation import answer

    group, store = context.process_group, context.store
    with group.synchronized():
        asked = _asked(context, stage, tasks)
    done = group.broadcast_from_main(lambda: {task.name: sorted(_read(store, keys[task.name])[0]) for task in tasks})
    answered = {name: frozenset(ids) for name, ids in done.items()}
    questions_of = {task.name: task.questions for task in tasks} | asked
    waiting = {name: [item for item in each if item.id not in answered[name]] for name, each in questions_of.items()}
    total = -(-sum(map(len, waiting.values())) // group.world_size)
    title = stage.title if stage else cell.title
    share, batch_size = (group.rank, group.world_size), context.cache_inputs.batch_size
    with (
        group.synchronized(),
        adapter_loaded(context, stage),
        generator_of(context, cell, stage) as generator,
        only_finite_logits(context.model),
        progress(f"{title}: questions", total) as bar,
    ):
        ask = partial(answer, context.model, batch_size=batch_size, share=share, generator=generator)
        for task in tasks:
            name, questions, pictures = task.name, waiting[task.name], picture_options(task.pictures)
            journal, started = store.journal(ANSWERS, keys[name], group.rank), time.perf_counter()
            for answers in ask(questions, pictures=pictures):
                now = time.perf_counter()
                journal.append([{"answers": [_row(each) for each in answers], "seconds": now - started}])
                started = now
                for _ in answers:
                    bar(name)
    return asked


def _asked(context: RunContext, stage: Stage | None, tasks: Sequence[BenchmarkTask]) -> dict[str, tuple[Question, ...]]:
    """The questions as the row asks them, by benchmark; none if it asks them as they are.

    Raises:
        UserError: A question does not fit into the model's window, or may not be asked so.
    """
    asker = Asker(context, stage)
    asked = {task.name: asker.ask(task) for task in tasks} if asker.changes_questions else {}
    for task in tasks if asked else ():
        asker.check_lengths(asked[task.name], task.questions)
    return asked


def _finalize(context: RunContext, task: BenchmarkTask, key: CacheKey) -> AnswerSet:
    """Merge the journals into one entry, after the probes around the answering have passed."""
    store = context.store
    rows, seconds = _read(store, key)
    if any(question.id not in rows for question in task.questions):
        raise IntegrityError(
            "answers of other processes are not visible here",
            location=task.name,
            hint="run the command again; all machines must see the same folder of the run, without delay",
        )
    ordered = [rows[question.id] for question in task.questions]
    store.write_json(SECONDS, key, seconds)
    store.write_json(ANSWERS, key, ordered)
    _discard_journals(store, key)
    return AnswerSet([_answer(row) for row in ordered], seconds, digest(key))


def _discard_journals(store: Store, key: CacheKey) -> None:
    for journal in store.journals(ANSWERS, key):
        journal.discard()


def _read(store: Store, key: CacheKey) -> tuple[dict[str, dict[str, Any]], float]:
    """The rows in the journals, by question, and the seconds they took: those of the slowest process."""
    rows, seconds = {}, 0.0
    for journal in store.journals(ANSWERS, key):
        lines = journal.read()
        rows.update({row["question_id"]: row for line in lines for row in line["answers"]})
        seconds = max(seconds, sum(line["seconds"] for line in lines))
    return rows, seconds


@contextmanager
def adapter_loaded(context: RunContext, stage: Stage | None) -> Iterator[None]:
    """Load a stage's adapter into the base model for the duration of the block; for None, leave the base as it is.

    Raises:
        IntegrityError: The adapter changes no logit (I4), or the base has changed afterwards.
    """
    model = context.model
    if stage is None:
        yield
        return
    tensors = context.store.read_tensors(ADAPTERS, stage.training_key(context.cache_inputs))
    if tensors is None:
        raise IntegrityError(
            "the adapter was lost", location=stage.title, hint="run the command again to train it again"
        )
    if not tensors and stage.cell.scale is not None:
        hint = "ask for the row itself"
        raise IntegrityError("it has no update that could be scaled", location=stage.title, hint=hint)
    before = _probe(context)
    method = stage.cell.make()
    if not tensors and method.overrides("ask"):
        _check_asking(context, stage)
    method.restore(model, scaled_tensors(context, stage.cell, tensors))
    model.module.eval()
    try:
        if bool((_probe(context) == before).all()) and (tensors or not method.overrides("ask")):
            raise IntegrityError(
                "the adapter changes no logit: its answers would be those of the untouched base",
                location=stage.title,
                hint="raise its learning rate, or fix the method's restore",
            )
        yield
    finally:
        method.detach(model)
    if not bool((_probe(context) == before).all()):
        context.unload_model()
        raise IntegrityError(
            "without its adapter the model does not answer as before",
            location=stage.title,
            hint="have the method's detach undo everything that restore does",
        )
    context.verify_base_unchanged(stage.title)


def _check_asking(context: RunContext, stage: Stage) -> None:
    """Refuse a row that only asks in another way, and asks nothing in another way."""
    if not Asker(context, stage).changes_any():
        raise IntegrityError(
            "it asks every question as the untouched base is asked: its answers would be the same",
            location=stage.title,
            hint="add the benchmark that asks about the new knowledge, or fix the method's ask",
        )


def scaled_tensors(context: RunContext, cell: Cell, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A row's adapter: that of its source, with the update scaled if the row says so. The base must be untouched."""
    if cell.scale is None:
        return tensors
    return cell.make().scale_update(context.model, tensors, cell.scale)


def _probe(context: RunContext) -> torch.Tensor:
    """Logits (n, vocabulary) at the supervised positions of a few knowledge items."""
    import torch

    from methods.augmentation.knowledge_tree import published_conversation

    samples = [published_conversation(item) for item in context.inputs.knowledge[:PROBE_ITEMS]]
    with torch.inference_mode():
        return context.model.supervised(context.model.training_batch(samples))[0].cpu()


def _row(answer: Answer) -> dict[str, Any]:
    return {
        "question_id": answer.question_id,
        "texts": list(answer.texts),
        "new_tokens": answer.new_tokens,
        "truncated": answer.truncated,
        "error": answer.error,
    }


def _answer(row: dict[str, Any]) -> Answer:
    return Answer(row["question_id"], tuple(row["texts"]), row["new_tokens"], row["truncated"], row["error"])
