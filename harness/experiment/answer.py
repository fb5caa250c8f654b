"""Have a cell's model answer every benchmark; what is answered is on the disk before the next batch begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.records import Answer
from harness.data.inputs import Asked
from harness.experiment.cell import ADAPTERS, ANSWERS, Cell
from harness.experiment.context import Untrue, Workshop
from harness.experiment.stages import Step
from harness.progress import progress
from harness.storage.store import Journal, Recipe, Store, digest

if TYPE_CHECKING:
    import torch

SECONDS = "seconds"
"""The kind of entry that says how long an answers entry took; apart, so that equal answers stay equal."""
PROBES = 4
"""Knowledge items on which the probe compares logits."""


@dataclass(frozen=True)
class Answered:
    """The answers to one benchmark, in the order of its questions, how long they took, and their key in the store."""

    answers: list[Answer]
    seconds: float
    key: str


def stored_answers(
    workshop: Workshop, cell: Cell, adapter: str, wanted: Sequence[Asked] | None = None
) -> dict[str, Answered]:
    """By benchmark, what is answered already and whole; of all benchmarks of the run where none are named."""
    found = {}
    for asked in workshop.sources.asked if wanted is None else wanted:
        recipe = cell.answers_recipe(workshop.ground, adapter, asked.questions)
        rows = workshop.store.read_json(ANSWERS, recipe)
        if rows is not None:
            seconds = float(workshop.store.read_json(SECONDS, recipe) or 0.0)
            found[asked.name] = Answered([_answer(row) for row in rows], seconds, digest(recipe))
    return found


def answers_at(store: Store, key: str) -> list[Answer] | None:
    """The stored answers with this key, if they are there and whole."""
    found = store.read_key(ANSWERS, key)
    return None if found is None else [_answer(row) for row in found[0]]


def answered(
    workshop: Workshop, cell: Cell, step: Step | None, adapter: str, wanted: Sequence[Asked]
) -> dict[str, Answered]:
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
    stored = stored_answers(workshop, cell, adapter, wanted) if workshop.crew.leads else {}
    workshop.count_reused(ANSWERS, len(stored))
    names = workshop.crew.agreed(lambda: [asked.name for asked in wanted if asked.name not in stored])
    missing = [asked for asked in wanted if asked.name in names]
    recipes = {asked.name: cell.answers_recipe(workshop.ground, adapter, asked.questions) for asked in missing}
    # Benchmarks that put the very same questions are asked once.
    apart = {digest(recipes[asked.name]): asked for asked in missing}
    if apart:
        _ask(workshop, cell, step, list(apart.values()), recipes)
    if not workshop.crew.leads:
        return {}
    kept = {key: _kept(workshop, asked, recipes[asked.name]) for key, asked in apart.items()}
    return stored | {name: kept[digest(recipe)] for name, recipe in recipes.items()}


def _ask(
    workshop: Workshop, cell: Cell, step: Step | None, missing: Sequence[Asked], recipes: Mapping[str, Recipe]
) -> None:
    """Have every question answered that no journal has; each process takes its share of the batches.

    Raises:
        Untrue: The adapter changes no logit, or the base is not what it was afterwards.
    """
    crew, store = workshop.crew, workshop.store
    done = crew.agreed(lambda: {asked.name: sorted(_read(store, recipes[asked.name])[0]) for asked in missing})
    waiting = sum(len(asked.questions) - len(done[asked.name]) for asked in missing)
    title = step.title if step else cell.title
    with (
        crew.together(),
        adapted(workshop, step),
        progress(f"{title}: questions", -(-waiting // crew.count)) as bar,
    ):
        for asked in missing:
            journal = store.journal(ANSWERS, recipes[asked.name], crew.place)
            _answer_rest(workshop, asked, frozenset(done[asked.name]), journal, bar)


def _kept(workshop: Workshop, asked: Asked, recipe: Recipe) -> Answered:
    """Make one entry of what the journals hold, once it is known that nothing but the adapter had a part in it."""
    store = workshop.store
    rows, seconds = _read(store, recipe)
    if any(question.id not in rows for question in asked.questions):
        raise Untrue(
            "what other processes have answered is not to be seen here",
            where=asked.name,
            mend="run the command again; on several machines, the run's folder must lie where all see it at once",
        )
    ordered = [rows[question.id] for question in asked.questions]
    store.write_json(SECONDS, recipe, seconds)
    store.write_json(ANSWERS, recipe, ordered)
    for journal in store.journals(ANSWERS, recipe):
        journal.discard()
    return Answered([_answer(row) for row in ordered], seconds, digest(recipe))


def _read(store: Store, recipe: Recipe) -> tuple[dict[str, dict[str, Any]], float]:
    """The rows that the journals hold, by question, and how long they took: processes answer side by side."""
    rows, seconds = {}, 0.0
    for journal in store.journals(ANSWERS, recipe):
        lines = journal.read()
        rows.update({row["question_id"]: row for line in lines for row in line["answers"]})
        seconds = max(seconds, sum(line["seconds"] for line in lines))
    return rows, seconds


@contextmanager
def adapted(workshop: Workshop, step: Step | None) -> Iterator[None]:
    """The base model with the adapter of a step in it, for the duration of the block; without one, the base itself.

    Raises:
        Untrue: The adapter changes no logit (I4), or the base is not what it was afterwards.
    """
    model = workshop.model
    if step is None:
        yield
        return
    tensors = workshop.store.read_tensors(ADAPTERS, step.recipe(workshop.ground))
    if tensors is None:
        raise Untrue("the adapter was lost", where=step.title, mend="run the command again; it is trained again")
    before = _probe(workshop)
    method = step.cell.make()
    method.restore(model, tensors)
    model.module.eval()
    try:
        if bool((_probe(workshop) == before).all()):
            raise Untrue(
                "the adapter changes no logit: its answers would be those of the untouched base",
                where=step.title,
                mend="raise its learning rate, or mend the method's restore",
            )
        yield
    finally:
        method.detach(model)
    if not bool((_probe(workshop) == before).all()):
        workshop.drop_model()
        raise Untrue(
            "without its adapter the model does not answer as before",
            where=step.title,
            mend="have the method's detach undo everything that restore does",
        )
    workshop.check_base(step.title)


def _probe(workshop: Workshop) -> torch.Tensor:
    """Logits (n, vocabulary) at the supervised positions of a few knowledge items."""
    import torch

    from methods.base import as_published

    samples = [as_published(item) for item in workshop.sources.knowledge[:PROBES]]
    with torch.inference_mode():
        return workshop.model.supervised(workshop.model.training_batch(samples))[0].cpu()


def _answer_rest(
    workshop: Workshop, asked: Asked, done: frozenset[str], journal: Journal, bar: Callable[[str], None]
) -> None:
    """Answer this process's share of what is not answered yet of one benchmark."""
    from harness.models.batched_generation import answer

    crew, started = workshop.crew, time.perf_counter()
    rest = [question for question in asked.questions if question.id not in done]
    share = (crew.place, crew.count)
    for answers in answer(workshop.model, rest, batch_size=workshop.ground.batch_size, share=share):
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
