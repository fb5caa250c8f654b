"""The trainings of a cell: one, or several injection stages that continue from each other."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from benchmarks.records import KnowledgeItem
from harness.data.inputs import BenchmarkTask
from harness.data.knowledge_split import stage_parts
from harness.experiment.cell import ADAPTERS, TRAINING, CacheInputs, Cell
from harness.experiment.context import IntegrityError, RunContext
from harness.storage.digests import knowledge_digest
from harness.storage.store import CacheKey

if TYPE_CHECKING:
    import torch

STAGE_STATE = "carried"
"""The kind of entry with the state that a method passes to the next stage, beside its adapter; runs made before name
it so."""
RECORD_FIELDS = {ADAPTERS: "adapter", STAGE_STATE: "carried"}
"""The field of a training record with an output's SHA-256, by kind of entry."""
Record = Mapping[str, Any]
"""The stored record of a training: status, reason, SHA-256 of the adapter, log, cost, diagnostics; before another stage
also the SHA-256 of the stage state."""


@dataclass(frozen=True)
class Stage:
    """One training of a cell: on all knowledge at once, or on one of several parts."""

    cell: Cell
    knowledge: tuple[KnowledgeItem, ...]
    number: int = 1
    count: int = 1
    previous: Stage | None = None
    """The stage before, trained."""
    name: str = ""
    """Its name in a task sequence; part of no cache key."""
    record: Record = field(default_factory=dict)
    """The record of its training; empty until it is trained."""

    @property
    def title(self) -> str:
        """The cell's title with the stage's number, for messages."""
        return self.cell.title if self.count == 1 else f"{self.cell.title}, {self.place}"

    @property
    def place(self) -> str:
        """Its number among the stages, and its name if it has one."""
        return f"stage {self.number} of {self.count}" + (f" ({self.name})" if self.name else "")

    @property
    def is_last(self) -> bool:
        """Whether the cell is fully trained after it."""
        return self.number == self.count

    @property
    def status(self) -> str:
        """The status of its training; empty if it is not trained."""
        return str(self.record.get("status", ""))

    @property
    def outputs(self) -> dict[str, str]:
        """SHA-256 of each stored output, by kind of entry; empty if it is not trained or diverged."""
        return {kind: self.record[name] for kind, name in RECORD_FIELDS.items() if self.record.get(name)}

    @property
    def adapter(self) -> str:
        """SHA-256 of the adapter; empty if there is none."""
        return self.outputs.get(ADAPTERS, "")

    @property
    def seed(self) -> int:
        """The seed for torch. It differs between stages, whose initial values must not be the same."""
        if self.number == 1:
            return self.cell.seed
        return int.from_bytes(hashlib.sha256(f"{self.cell.seed}/stage {self.number}".encode()).digest()[:4])

    def training_key(self, cache_inputs: CacheInputs) -> CacheKey:
        """The cache key of the adapter after this stage."""
        key = self.cell.training_key(cache_inputs)
        if self.count == 1:
            return key
        outputs = self.previous.outputs if self.previous else {}
        before = {name: outputs.get(kind, "") for kind, name in RECORD_FIELDS.items()} if self.previous else None
        stage = {"number": self.number, "of": self.count, "before": before}
        return {**key, "knowledge": knowledge_digest(self.knowledge), "stage": stage}


def list_stages(context: RunContext, cell: Cell) -> list[Stage]:
    """The stages of a cell, without links to previous stages: those are known only once they are trained."""
    count = context.settings.stage_count
    parts = stage_parts(context.inputs, count, cell.seed)
    return [Stage(cell, part, number, count, name=name) for number, (name, part) in enumerate(parts, 1)]


def stored_record(context: RunContext, stage: Stage) -> Record | None:
    """The stored record of a stage's training, which ended well or diverged; None if there is none."""
    record: Record | None = context.store.read_json(TRAINING, stage.training_key(context.cache_inputs))
    return record


def cached_stages(context: RunContext, cell: Cell) -> list[Stage]:
    """The stages whose training is stored, up to the first that is not or that diverged."""
    stages: list[Stage] = []
    for stage in list_stages(context, cell):
        stage = replace(stage, previous=stages[-1] if stages else None)
        record = stored_record(context, stage)
        if record is None:
            break
        stages.append(replace(stage, record=record))
        if stages[-1].status != "ok":
            break
    return stages


def knowledge_after(context: RunContext, stage: Stage) -> tuple[KnowledgeItem, ...]:
    """The items that were injected up to the end of a stage."""
    parts = stage_parts(context.inputs, stage.count, stage.cell.seed)
    return tuple(item for _, part in parts[: stage.number] for item in part)


def tasks_after(context: RunContext, stage: Stage) -> tuple[BenchmarkTask, ...]:
    """What is asked after a stage: everything after the last, before that what concerns the knowledge so far."""
    if stage.is_last:
        return context.inputs.tasks
    questions = context.inputs.questions_about(knowledge_after(context, stage))
    return (replace(context.inputs.adaptation_task, questions=questions),)


def is_intact(context: RunContext, stage: Stage) -> bool:
    """Whether the outputs of a trained stage are stored and undamaged."""
    key = stage.training_key(context.cache_inputs)
    return all(
        context.store.read_tensors(kind, key) is not None and context.store.content_digest(kind, key) == sha256
        for kind, sha256 in stage.outputs.items()
    )


def load_previous(context: RunContext, stage: Stage, kind: str) -> dict[str, torch.Tensor]:
    """Load an output of the previous stage; nothing if there is none.

    Raises:
        IntegrityError: It is missing, or not what this stage's cache key says.
    """
    sha256 = stage.previous.outputs.get(kind) if stage.previous else None
    if stage.previous is None or sha256 is None:
        return {}
    key = stage.previous.training_key(context.cache_inputs)
    tensors = context.store.read_tensors(kind, key)
    if tensors is None or context.store.content_digest(kind, key) != sha256:
        message = "the output of the previous stage is missing or damaged"
        raise IntegrityError(message, location=stage.title, hint="run the command again to train it again")
    return tensors


def merge_records(records: Sequence[Record]) -> dict[str, Any]:
    """Merge the records of a cell's stages: the last one's, with all logs joined and the costs added up."""
    merged = dict(records[-1])
    if len(records) == 1:
        return merged
    logs = [step for record in records for step in record.get("log", ())]
    merged["log"] = [[number, *step[1:]] for number, step in enumerate(logs)]
    merged["draws"] = [draw for record in records for draw in record.get("draws", ())]
    merged["conversations"] = sum(record.get("conversations", 0) for record in records)
    merged["branches"] = dict(sum((Counter(record.get("branches", {})) for record in records), Counter[str]()))
    costs = [record["cost"] for record in records if "cost" in record]
    if costs:
        maxima = ("peak_memory_bytes", "trainable_parameters", "processes")
        merged["cost"] = {name: (max if name in maxima else sum)(cost[name] for cost in costs) for name in costs[-1]}
    return merged
