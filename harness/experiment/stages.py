"""Injection stages: how the knowledge is dealt into parts, and what each stage's training is made of.

With several stages the knowledge arrives in parts, one after the other: EVOKE's sequential setting (arXiv 2505.24449;
4, 8 or 12 phases). Its rule for splitting is not published, so ours is: within each fine-grained type the items are
shuffled by the cell's seed and dealt out in turn. Parts differ by at most one item, in all and in each type; every
method with the same seed gets the same parts.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from benchmarks.errors import UserError
from benchmarks.records import KnowledgeItem, Question
from benchmarks.registry import ADAPTATION, get_benchmark
from harness.data.inputs import BenchmarkTask, RunInputs
from harness.experiment.cell import CacheInputs, Cell
from harness.storage.digests import knowledge_digest
from harness.storage.store import CacheKey

CARRIED = "carried"
"""The kind of entry that holds what a method hands on from one stage to the next, beside its adapter."""
Record = Mapping[str, Any]
"""The stored record of a training."""


@dataclass(frozen=True)
class PreviousStage:
    """What the stage before left in the store: the recipe of its entries, and the sha256 of their content."""

    recipe: CacheKey
    adapter: str
    stage_state: str
    """Empty where the method hands on nothing but its adapter."""


@dataclass(frozen=True)
class Stage:
    """One training of a cell: with all knowledge at once, or one of several stages."""

    cell: Cell
    knowledge: tuple[KnowledgeItem, ...]
    number: int = 1
    of: int = 1
    earlier: PreviousStage | None = None

    @property
    def title(self) -> str:
        """For progress lines."""
        return self.cell.title if self.of == 1 else f"{self.cell.title}, stage {self.number} of {self.of}"

    @property
    def last(self) -> bool:
        """Whether the cell is trained after it."""
        return self.number == self.of

    @property
    def seed(self) -> int:
        """What torch is seeded with: the cell's seed, and others from the second stage on.

        What is drawn afresh at each stage must not come out the same.
        """
        if self.number == 1:
            return self.cell.seed
        return int.from_bytes(hashlib.sha256(f"{self.cell.seed}/stage {self.number}".encode()).digest()[:4])

    @cached_property
    def digest(self) -> str:
        """Sha256 over the knowledge of this step."""
        return knowledge_digest(self.knowledge)

    def recipe(self, cache_inputs: CacheInputs) -> CacheKey:
        """What makes the adapter after this step."""
        whole = self.cell.training_recipe(cache_inputs)
        if self.of == 1:
            return whole
        before = {"adapter": self.earlier.adapter, "carried": self.earlier.stage_state} if self.earlier else None
        stage = {"number": self.number, "of": self.of, "before": before}
        return {**whole, "knowledge": self.digest, "stage": stage}


def split_knowledge(items: Sequence[KnowledgeItem], count: int, seed: int) -> tuple[tuple[KnowledgeItem, ...], ...]:
    """Deal the knowledge into parts; within a part the items keep their order.

    Raises:
        UserError: There are fewer items than parts.
    """
    if count > len(items):
        raise UserError(
            f"{len(items)} knowledge items cannot be dealt into {count} stages",
            location="stages",
            hint="ask for fewer stages, or raise the limit",
        )
    if count == 1:
        return (tuple(items),)
    draw = random.Random(f"stages {seed}")
    kinds: dict[tuple[str, str], list[int]] = {}
    for index, item in enumerate(items):
        kinds.setdefault((item.group, item.type), []).append(index)
    order: list[int] = []
    for _, members in sorted(kinds.items()):
        draw.shuffle(members)
        order += members
    return tuple(tuple(items[index] for index in sorted(order[part::count])) for part in range(count))


def about_knowledge(asked: Sequence[BenchmarkTask]) -> BenchmarkTask:
    """The benchmark that asks about the new knowledge.

    Raises:
        UserError: None does.
    """
    for each in asked:
        if get_benchmark(each.name).dimension == ADAPTATION:
            return each
    raise UserError(
        "several stages are told apart by questions about the new knowledge, but no such benchmark is named",
        location="benchmarks",
        hint="add one: `harness list` shows them",
    )


def item_of_question(sources: RunInputs) -> dict[str, str]:
    """By question about the knowledge, the id of the item that it asks about.

    They belong together by equal ids; else, where the files have as many rows, by their place, as in published EVOKE.

    Raises:
        UserError: Neither is so.
    """
    benchmark = about_knowledge(sources.asked).benchmark
    questions = [question.id for question in benchmark.questions()]
    if set(questions) <= set(sources.items):
        return {name: name for name in questions}
    if len(questions) == len(sources.items):
        return dict(zip(questions, sources.items, strict=True))
    stranger = next(name for name in questions if name not in set(sources.items))
    raise UserError(
        f"question {stranger!r} names no knowledge item, and {len(questions)} questions cannot be matched with "
        f"{len(sources.items)} items by their place",
        location=benchmark.name,
        hint="give each question the id of the item that it asks about",
    )


def check_stages(sources: RunInputs, count: int) -> None:
    """Refuse stages that the data does not allow, before anything is computed.

    Raises:
        UserError: As ``split_knowledge``, ``about_knowledge`` and ``item_of_question``.
    """
    if count > 1:
        split_knowledge(sources.knowledge, count, 0)
        item_of_question(sources)


def asked_about(
    asked: BenchmarkTask, owner: Mapping[str, str], knowledge: Sequence[KnowledgeItem]
) -> tuple[Question, ...]:
    """The questions about these items."""
    wanted = {item.id for item in knowledge}
    return tuple(question for question in asked.questions if owner[question.id] in wanted)


def merge_records(records: Sequence[Record]) -> dict[str, Any]:
    """The records of a cell's stages as one: the last one's, with the logs joined and the costs added up."""
    whole = dict(records[-1])
    if len(records) == 1:
        return whole
    logs = [step for record in records for step in record.get("log", ())]
    whole["log"] = [[number, *step[1:]] for number, step in enumerate(logs)]
    whole["conversations"] = sum(record.get("conversations", 0) for record in records)
    costs = [record["cost"] for record in records if "cost" in record]
    if costs:
        largest = ("peak_memory_bytes", "trainable_parameters", "processes")
        whole["cost"] = {name: (max if name in largest else sum)(cost[name] for cost in costs) for name in costs[-1]}
    return whole
