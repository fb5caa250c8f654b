"""Have a cell's model answer every benchmark; what is answered is on the disk before the next batch begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.records import Answer
from harness.data.inputs import BenchmarkTask
from harness.experiment.cell import ADAPTERS, ANSWERS, Cell
from harness.experiment.context import IntegrityError, RunContext
from harness.experiment.stages import Stage
from harness.progress import progress
from harness.storage.store import CacheKey, Journal, Store, digest

if TYPE_CHECKING:
    import torch

SECONDS = "seconds"
"""The kind of entry that says how long an answers entry took; apart, so that equal answers stay equal."""
PROBES = 4
"""Knowledge items on which the probe compares logits."""


@dataclass(frozen=True)
class AnswerSet:
    """The answers to one benchmark, in the order of its questions, how long they took, and their key in the store."""

    answers: list[Answer]
    seconds: float
    key: str


def stored_answers(
    context: RunContext, cell: Cell, adapter: str, wanted: Sequence[BenchmarkTask] | None = None
) -> dict[str, AnswerSet]:
    """By benchmark, what is answered already and whole; of all benchmarks of the run where none are named."""
    found = {}
    for asked in context.sources.asked if wanted is None else wanted:
        recipe = cell.answers_recipe(context.cache_inputs, adapter, asked.questions)
        rows = context.store.read_json(ANSWERS, recipe)
        if rows is not None:
            seconds = float(context.store.read_json(SECONDS, recipe) or 0.0)
            found[asked.name] = AnswerSet([_answer(row) for row in rows], seconds, digest(recipe))
    return found


def answers_at(store: Store, key: str) -> list[Answer] | None:
    """The stored answers with this key, if they are there and whole."""
    found = store.read_key(ANSWERS, key)
    return None if found is None else [_answer(row) for row in found[0]]


def get_answers(
    context: RunContext, cell: Cell, step: Stage | None, adapter: str, wanted: Sequence[BenchmarkTask]
) -> dict[str, AnswerSet]:
    """The answers to some benchmarks; what is not stored is asked. A process that does not lead gets none.

    Args:
        workshop: What the cells share.
        cell: The cell.
        step: Whose adapter answers; None for the untouched base.
        adapter: Sha256 of that adapter, empty for the untouched base.
        wanted: The benchmarks.

    Raises:
        Untrue: The adapter changes no logit, or the base is not what it was afterwards.
    """
    stored = stored_answers(context, cell, adapter, wanted) if context.process_group.is_main_process else {}
    context.count_reused(ANSWERS, len(stored))
    names = context.process_group.broadcast_from_main(
        lambda: [asked.name for asked in wanted if asked.name not in stored]
    )
    missing = [asked for asked in wanted if asked.name in names]
    recipes = {asked.name: cell.answers_recipe(context.cache_inputs, adapter, asked.questions) for asked in missing}
    # Benchmarks that put the very same questions are asked once.
    apart = {digest(recipes[asked.name]): asked for asked in missing}
    if apart:
        _ask(context, cell, step, list(apart.values()), recipes)
    if not context.process_group.is_main_process:
        return {}
    kept = {key: finalize_answers(context, asked, recipes[asked.name]) for key, asked in apart.items()}
    return stored | {name: kept[digest(recipe)] for name, recipe in recipes.items()}


def _ask(
    context: RunContext,
    cell: Cell,
    step: Stage | None,
    missing: Sequence[BenchmarkTask],
    recipes: Mapping[str, CacheKey],
) -> None:
    """Have every question answered that no journal has; each process takes its share of the batches.

    Raises:
        Untrue: The adapter changes no logit, or the base is not what it was afterwards.
    """
    process_group, store = context.process_group, context.store
    done = process_group.broadcast_from_main(
        lambda: {asked.name: sorted(_read(store, recipes[asked.name])[0]) for asked in missing}
    )
    waiting = sum(len(asked.questions) - len(done[asked.name]) for asked in missing)
    title = step.title if step else cell.title
    with (
        process_group.synchronized(),
        adapter_loaded(context, step),
        progress(f"{title}: questions", -(-waiting // process_group.world_size)) as bar,
    ):
        for asked in missing:
            journal = store.journal(ANSWERS, recipes[asked.name], process_group.rank)
            _answer_rest(context, asked, frozenset(done[asked.name]), journal, bar)


def finalize_answers(context: RunContext, asked: BenchmarkTask, recipe: CacheKey) -> AnswerSet:
    """Make one entry of what the journals hold, once it is known that nothing but the adapter had a part in it."""
    store = context.store
    rows, seconds = _read(store, recipe)
    if any(question.id not in rows for question in asked.questions):
        raise IntegrityError(
            "what other processes have answered is not to be seen here",
            location=asked.name,
            hint="run the command again; on several machines, the run's folder must lie where all see it at once",
        )
    ordered = [rows[question.id] for question in asked.questions]
    store.write_json(SECONDS, recipe, seconds)
    store.write_json(ANSWERS, recipe, ordered)
    for journal in store.journals(ANSWERS, recipe):
        journal.discard()
    return AnswerSet([_answer(row) for row in ordered], seconds, digest(recipe))


def _read(store: Store, recipe: CacheKey) -> tuple[dict[str, dict[str, Any]], float]:
    """The rows that the journals hold, by question, and how long they took: processes answer side by side."""
    rows, seconds = {}, 0.0
    for journal in store.journals(ANSWERS, recipe):
        lines = journal.read()
        rows.update({row["question_id"]: row for line in lines for row in line["answers"]})
        seconds = max(seconds, sum(line["seconds"] for line in lines))
    return rows, seconds


@contextmanager
def adapter_loaded(context: RunContext, step: Stage | None) -> Iterator[None]:
    """The base model with the adapter of a step in it, for the duration of the block; without one, the base itself.

    Raises:
        Untrue: The adapter changes no logit (I4), or the base is not what it was afterwards.
    """
    model = context.model
    if step is None:
        yield
        return
    tensors = context.store.read_tensors(ADAPTERS, step.recipe(context.cache_inputs))
    if tensors is None:
        raise IntegrityError(
            "the adapter was lost", location=step.title, hint="run the command again; it is trained again"
        )
    before = _probe(context)
    method = step.cell.make()
    method.restore(model, tensors)
    model.module.eval()
    try:
        if bool((_probe(context) == before).all()):
            raise IntegrityError(
                "the adapter changes no logit: its answers would be those of the untouched base",
                location=step.title,
                hint="raise its learning rate, or mend the method's restore",
            )
        yield
    finally:
        method.detach(model)
    if not bool((_probe(context) == before).all()):
        context.unload_model()
        raise IntegrityError(
            "without its adapter the model does not answer as before",
            location=step.title,
            hint="have the method's detach undo everything that restore does",
        )
    context.verify_base_unchanged(step.title)


def _probe(context: RunContext) -> torch.Tensor:
    """Logits (n, vocabulary) at the supervised positions of a few knowledge items."""
    import torch

    from methods.base import as_published

    samples = [as_published(item) for item in context.sources.knowledge[:PROBES]]
    with torch.inference_mode():
        return context.model.supervised(context.model.training_batch(samples))[0].cpu()


def _answer_rest(
    context: RunContext, asked: BenchmarkTask, done: frozenset[str], journal: Journal, bar: Callable[[str], None]
) -> None:
    """Answer this process's share of what is not answered yet of one benchmark."""
    from harness.models.batched_generation import answer

    process_group, started = context.process_group, time.perf_counter()
    rest = [question for question in asked.questions if question.id not in done]
    share = (process_group.rank, process_group.world_size)
    for answers in answer(context.model, rest, batch_size=context.cache_inputs.batch_size, share=share):
        now = time.perf_counter()
        journal.append([{"answers": [_row(one) for one in answers], "seconds": now - started}])
        started = now
        for _ in answers:
            bar(asked.name)


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
