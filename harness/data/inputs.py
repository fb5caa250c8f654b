"""The data of a run: the knowledge to inject, the old data, and what each benchmark asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from benchmarks.base import Benchmark
from benchmarks.data.knowledge import load_knowledge
from benchmarks.data.zip_pictures import place_of
from benchmarks.records import KnowledgeItem, Question
from benchmarks.registry import ADAPTATION, EVOKE_FILE, INJECTION_FILE, BenchmarkInfo, get_benchmark
from benchmarks.retention import Retention
from benchmarks.retention_specs import PREFIX
from benchmarks.vlmeval import client as vlmeval_client
from harness.config.settings import Settings
from harness.data.pretraining_data import PretrainingData, open_pretraining_data
from harness.llm.judge import judge_named
from harness.storage.digests import knowledge_digest, questions_digest
from harness.storage.store import Store


@dataclass(frozen=True)
class BenchmarkTask:
    """One benchmark and what it asks in this run."""

    benchmark: Benchmark
    fingerprint: str
    questions: tuple[Question, ...]

    @property
    def name(self) -> str:
        """As the tables show it."""
        return self.benchmark.name

    @cached_property
    def digest(self) -> str:
        """Sha256 over what the model is shown."""
        return questions_digest(self.questions)


@dataclass(frozen=True)
class RunInputs:
    """Everything that is read, and nothing that is computed."""

    knowledge: tuple[KnowledgeItem, ...]
    old: PretrainingData
    asked: tuple[BenchmarkTask, ...]
    items: tuple[str, ...] = ()
    """Ids of all knowledge in the file, also of what a limit leaves out."""
    inputs: Mapping[str, tuple[Question, ...]] = field(default_factory=dict)
    """All questions of the benchmarks that some method reads, by the name by which it asks for them."""

    @cached_property
    def knowledge_digest(self) -> str:
        """Sha256 over the knowledge."""
        return knowledge_digest(self.knowledge)


def load_sources(settings: Settings, store: Store, inputs: Iterable[str] = ()) -> RunInputs:
    """Read and check all data before anything is computed.

    Args:
        settings: They name the data.
        store: Has a place for unpacked pictures.
        inputs: Benchmarks whose questions some method reads.

    Raises:
        UserError: A file is missing or bad.
    """
    knowledge = load_knowledge(injection_file(settings))
    asked = ask(open_benchmarks(settings, store), settings.limit)
    return RunInputs(
        knowledge=tuple(knowledge[: settings.limit]),
        old=open_pretraining_data(settings.data.old),
        asked=asked,
        items=tuple(item.id for item in knowledge),
        inputs={name: _all_questions(name, settings, store, asked) for name in inputs},
    )


def open_benchmarks(settings: Settings, store: Store) -> list[Benchmark]:
    """The benchmarks that the settings name, over the data that they name.

    Raises:
        UserError: There is no benchmark of that name.
    """
    return [_open(get_benchmark(name), settings, store) for name in settings.benchmarks]


def _open(entry: BenchmarkInfo, settings: Settings, store: Store) -> Benchmark:
    data = evaluation_file(settings) if entry.dimension == ADAPTATION else settings.data.retention
    return entry.open(
        store.scratch("benchmarks"),
        data,
        judge=judge_named(settings.judge, store),
        protocol=settings.protocol,
        published=settings.data.published,
    )


def _all_questions(name: str, settings: Settings, store: Store, asked: Sequence[BenchmarkTask]) -> tuple[Question, ...]:
    """A benchmark's questions, whatever the limit; without the miniature's prefix it is that of the run's own size."""
    own = {get_benchmark(each).original: get_benchmark(each) for each in settings.benchmarks}
    mini = all(entry.size == "mini" for entry in own.values()) and not name.startswith(PREFIX)
    entry = own.get(name) or get_benchmark(f"{PREFIX}{name}" if mini else name)
    there = [each.questions for each in asked if each.name == entry.name and settings.limit is None]
    return there[0] if there else tuple(_open(entry, settings, store).questions())


def injection_file(settings: Settings) -> Path:
    """The file of new knowledge."""
    knowledge = settings.data.knowledge
    return place_of(knowledge, INJECTION_FILE) if knowledge.is_dir() else knowledge


def evaluation_file(settings: Settings) -> Path:
    """The file of questions about the new knowledge."""
    return settings.data.evaluation or injection_file(settings).with_name(EVOKE_FILE)


def ask(benchmarks: Sequence[Benchmark], limit: int | None) -> tuple[BenchmarkTask, ...]:
    """Each benchmark's questions."""
    # In one go, for each start of VLMEvalKit takes seconds; what was unpacked before is read back below.
    vlmeval_client.questions_many([each for each in benchmarks if isinstance(each, Retention)])
    return tuple(BenchmarkTask(each, each.fingerprint(), tuple(each.questions(limit))) for each in benchmarks)
