"""Have a cell's model answer every benchmark; what is answered is on the disk before the next batch begins."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.records import Answer
from harness.cells import ADAPTERS, ANSWERS, Cell
from harness.sources import Asked
from harness.workshop import Untrue, Workshop

if TYPE_CHECKING:
    import torch

SECONDS = "seconds"
"""The kind of entry that says how long an answers entry took; apart, so that equal answers stay equal."""
PROBES = 4
"""Knowledge items on which the probe compares logits."""


@dataclass(frozen=True)
class Answered:
    """The answers to one benchmark, in the order of its questions, and how long they took."""

    answers: list[Answer]
    seconds: float


def stored_answers(workshop: Workshop, cell: Cell, adapter: str) -> dict[str, Answered]:
    """By benchmark, what is answered already and whole."""
    found = {}
    for asked in workshop.sources.asked:
        recipe = cell.answers_recipe(workshop.ground, adapter, asked.questions)
        rows = workshop.store.read_json(ANSWERS, recipe)
        if rows is not None:
            seconds = float(workshop.store.read_json(SECONDS, recipe) or 0.0)
            found[asked.name] = Answered([_answer(row) for row in rows], seconds)
    return found


def answer_missing(workshop: Workshop, cell: Cell, adapter: str, missing: Sequence[Asked]) -> dict[str, Answered]:
    """Answer the benchmarks whose answers are not stored.

    Args:
        workshop: What the cells share.
        cell: The cell.
        adapter: Sha256 of its adapter, empty for the untouched base.
        missing: The benchmarks.

    Raises:
        Untrue: The adapter changes no logit, or the base is not what it was afterwards.
    """
    if not missing:
        return {}
    with adapted(workshop, cell):
        return {asked.name: _answer_one(workshop, cell, adapter, asked) for asked in missing}


@contextmanager
def adapted(workshop: Workshop, cell: Cell) -> Iterator[None]:
    """The base model with the cell's adapter in it, for the duration of the block.

    Raises:
        Untrue: The adapter changes no logit (I4), or the base is not what it was afterwards.
    """
    model = workshop.model
    if cell.settings is None:
        yield
        return
    tensors = workshop.store.read_tensors(ADAPTERS, cell.training_recipe(workshop.ground))
    if tensors is None:
        raise Untrue("the adapter was lost", where=cell.title, mend="run the command again; it is trained again")
    before = _probe(workshop)
    method = cell.make()
    method.restore(model, tensors)
    model.module.eval()
    try:
        if bool((_probe(workshop) == before).all()):
            raise Untrue(
                "the adapter changes no logit: its answers would be those of the untouched base",
                where=cell.title,
                mend="raise its learning rate, or mend the method's restore",
            )
        yield
    finally:
        method.detach(model)
    if not bool((_probe(workshop) == before).all()):
        workshop.drop_model()
        raise Untrue(
            "without its adapter the model does not answer as before",
            where=cell.title,
            mend="have the method's detach undo everything that restore does",
        )
    workshop.check_base(cell.title)


def _probe(workshop: Workshop) -> torch.Tensor:
    """Logits (n, vocabulary) at the supervised positions of a few knowledge items."""
    import torch

    from methods.base import as_published

    samples = [as_published(item) for item in workshop.sources.knowledge[:PROBES]]
    with torch.inference_mode():
        return workshop.model.supervised(workshop.model.training_batch(samples))[0].cpu()


def _answer_one(workshop: Workshop, cell: Cell, adapter: str, asked: Asked) -> Answered:
    """Answer one benchmark, going on where an earlier process stopped."""
    from harness.answering import answer

    recipe = cell.answers_recipe(workshop.ground, adapter, asked.questions)
    store, journal = workshop.store, workshop.store.journal(ANSWERS, recipe)
    lines = journal.read()
    done = {row["question_id"]: row for line in lines for row in line["answers"]}
    seconds, started = sum(line["seconds"] for line in lines), time.perf_counter()
    rest = [question for question in asked.questions if question.id not in done]
    for answers in answer(workshop.model, rest, batch_size=workshop.ground.batch_size):
        rows = [_row(one) for one in answers]
        now = time.perf_counter()
        journal.append([{"answers": rows, "seconds": now - started}])
        seconds, started = seconds + now - started, now
        done |= {row["question_id"]: row for row in rows}
    ordered = [done[question.id] for question in asked.questions]
    store.write_json(SECONDS, recipe, seconds)
    store.write_json(ANSWERS, recipe, ordered)
    journal.discard()
    return Answered([_answer(row) for row in ordered], seconds)


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
