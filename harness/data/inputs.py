"""The data of a run: the knowledge to inject, the pools of other samples, and the questions of each benchmark."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from benchmarks.base import Benchmark
from benchmarks.data.knowledge import KNOWLEDGE_FILES, load_knowledge
from benchmarks.data.rows import TEST, find_rows
from benchmarks.data.tables import table_files
from benchmarks.editing import EDITING
from benchmarks.errors import UserError
from benchmarks.records import KnowledgeItem, Question
from benchmarks.registry import (
    ADAPTATION,
    EDITING_FILES,
    EVOKE_FILE,
    INJECTION_FILE,
    QUESTION_FILES,
    BenchmarkInfo,
    get_benchmark,
)
from benchmarks.retention import Retention, questions_batch
from benchmarks.retention_specs import MINI_PREFIX
from benchmarks.sequence import EvokeSequence
from harness.config.schema import PictureSettings, Pool, Settings
from harness.data.pools import Pools, open_pools
from harness.data.task_sequence import SequenceStage, check_questions, load_sequence
from harness.llm.judge import resolve_judge
from harness.storage.store import Store


@dataclass(frozen=True)
class BenchmarkTask:
    """A benchmark and its questions in this run."""

    benchmark: Benchmark
    fingerprint: str
    questions: tuple[Question, ...]
    pictures: PictureSettings = field(default_factory=PictureSettings)
    """How its pictures are prepared."""

    @property
    def name(self) -> str:
        """The benchmark's name in tables."""
        return self.benchmark.name

    @property
    def further(self) -> str:
        """The dimension of a benchmark of one's own, or of a further one of VLMEvalKit's; empty for others."""
        spec = self.benchmark.spec if isinstance(self.benchmark, Retention) else None
        return spec.dimension if spec and spec.further else ""

    @property
    def asks_new_knowledge(self) -> bool:
        """Whether it asks about the new knowledge."""
        return not self.further and get_benchmark(self.name).dimension == ADAPTATION


@dataclass(frozen=True)
class RunInputs:
    """Everything that a run reads."""

    knowledge: tuple[KnowledgeItem, ...]
    pools: Pools
    tasks: tuple[BenchmarkTask, ...]
    item_ids: tuple[str, ...] = ()
    """Ids of all items in the knowledge file, or in those of a sequence, whatever the limit."""
    all_items: tuple[KnowledgeItem, ...] = ()
    """These items."""
    sequence: tuple[SequenceStage, ...] = ()
    """The stages of a task sequence; empty where there is one knowledge file."""
    evaluation_inputs: Mapping[str, tuple[Question, ...]] = field(default_factory=dict)
    """All questions of the benchmarks that some method reads, by the name in the method's ``evaluation_inputs``."""

    @property
    def adaptation_task(self) -> BenchmarkTask:
        """The benchmark that asks about the new knowledge.

        Raises:
            UserError: There is none.
        """
        for task in self.tasks:
            if task.asks_new_knowledge:
                return task
        raise UserError(
            "several stages need questions about the new knowledge, but no benchmark with such questions is named",
            location="benchmarks",
            hint="add one: `harness list` shows them",
        )

    @cached_property
    def item_of_question(self) -> dict[str, str]:
        """The id of the knowledge item that each question of the adaptation benchmark asks about, by question id.

        The ids are equal; or else the files have equally many rows and correspond row by row, as in published EVOKE.

        Raises:
            UserError: Neither is the case.
        """
        benchmark = self.adaptation_task.benchmark
        questions = [question.id for question in benchmark.questions()]
        if set(questions) <= set(self.item_ids):
            return {name: name for name in questions}
        if len(questions) == len(self.item_ids):
            return dict(zip(questions, self.item_ids, strict=True))
        unmatched = next(name for name in questions if name not in set(self.item_ids))
        raise UserError(
            f"question {unmatched!r} names no knowledge item, and {len(questions)} questions cannot be matched with "
            f"{len(self.item_ids)} items row by row",
            location=benchmark.name,
            hint="give each question the id of the item that it asks about",
        )

    def item_id_of(self, question: Question) -> str:
        """The id of the item that a question of any benchmark asks about; empty if it asks about none."""
        asked = [task.name for task in self.tasks if task.asks_new_knowledge]
        if not asked or question.benchmark != self.adaptation_task.name:
            return ""
        return self.item_of_question.get(question.id, "")

    def questions_about(self, knowledge: Iterable[KnowledgeItem]) -> tuple[Question, ...]:
        """The questions of the adaptation benchmark about these items; in a sequence, about whole stages of them."""
        ids = {item.id for item in knowledge}
        if self.sequence:
            stages = [stage for stage in self.sequence if any(item.id in ids for item in stage.items)]
            asked = frozenset[str]().union(*(stage.questions for stage in stages))
            return tuple(question for question in self.adaptation_task.questions if question.id in asked)
        return tuple(
            question for question in self.adaptation_task.questions if self.item_of_question[question.id] in ids
        )


def load_inputs(
    settings: Settings, store: Store, evaluation_inputs: Iterable[str] = (), pools: Collection[Pool] = tuple(Pool)
) -> RunInputs:
    """Read and check all data before anything is computed.

    Args:
        settings: They name the data.
        store: Provides a folder for unpacked pictures.
        evaluation_inputs: Benchmarks whose questions some method reads.
        pools: Pools that some method draws from.

    Raises:
        UserError: A benchmark is unknown, or a file is missing or malformed.
    """
    sequence = load_sequence(
        {stage.name: knowledge_file(stage.knowledge) for stage in settings.sequence}, settings.limit
    )
    if sequence:
        knowledge = [item for stage in sequence for item in stage.items]
        injected = [item for stage in sequence for item in stage.knowledge]
    else:
        file = _existing(injection_file(settings), "data.knowledge", (INJECTION_FILE, *KNOWLEDGE_FILES))
        knowledge = load_knowledge(file)
        injected = knowledge[: settings.limit]
    benchmarks = [_open(get_benchmark(name, settings.further), settings, store) for name in settings.benchmarks]
    # Starting VLMEvalKit takes seconds, so all tables are unpacked in one process and read back below.
    questions_batch([benchmark for benchmark in benchmarks if isinstance(benchmark, Retention)])
    tasks = tuple(
        BenchmarkTask(
            each, each.fingerprint(), tuple(each.questions(settings.limit)), answering_pictures(settings, each.name)
        )
        for each in benchmarks
    )
    return RunInputs(
        knowledge=tuple(injected),
        pools=open_pools(settings.data.calibration, settings.data.replay, pools),
        tasks=tasks,
        item_ids=tuple(item.id for item in knowledge),
        all_items=tuple(knowledge),
        sequence=_with_questions(sequence, settings, benchmarks),
        evaluation_inputs={name: _all_questions(name, settings, store, tasks) for name in evaluation_inputs},
    )


def _with_questions(
    sequence: Sequence[SequenceStage], settings: Settings, benchmarks: Sequence[Benchmark]
) -> tuple[SequenceStage, ...]:
    """The stages with the ids of their questions; without any if no benchmark asks about the new knowledge."""
    for benchmark in benchmarks:
        if isinstance(benchmark, EvokeSequence):
            check_questions(sequence, benchmark, question_files(settings))
            ids = (frozenset(question.id for question in questions) for questions in benchmark.by_stage)
            return tuple(replace(stage, questions=asked) for stage, asked in zip(sequence, ids, strict=True))
    return tuple(sequence)


def _open(info: BenchmarkInfo, settings: Settings, store: Store) -> Benchmark:
    limit = settings.answering.new_tokens(info.name)
    if info.dimension == ADAPTATION and settings.sequence:
        published = settings.data.published and info.size == "real"
        return EvokeSequence(question_files(settings), store.scratch("benchmarks"), info.name, published, limit)
    judge = resolve_judge(settings.judge, store)
    if info.dimension == ADAPTATION and not asks_editing(settings):
        judge = ""  # a judge's verdict on each answer is one of editing's measures, and costs a call each
    return info.open(
        store.scratch("benchmarks"),
        benchmark_data(info, settings),
        judge=judge,
        protocol=settings.protocol,
        published=settings.data.published,
        max_new_tokens=limit,
    )


def benchmark_data(info: BenchmarkInfo, settings: Settings) -> Path:
    """The file or folder with a benchmark's questions."""
    if info.dimension == EDITING:
        return _existing(editing_file(settings), "data.editing", EDITING_FILES)
    if info.dimension == ADAPTATION:
        return _existing(evaluation_file(settings), "data.evaluation", QUESTION_FILES)
    return settings.data.retention


def asks_editing(settings: Settings) -> bool:
    """Whether the run asks for editing's measures."""
    return any(get_benchmark(name, settings.further).dimension == EDITING for name in settings.benchmarks)


def answering_pictures(settings: Settings, benchmark: str) -> PictureSettings:
    """How a benchmark's pictures are prepared."""
    own = settings.answering.pictures
    is_about_knowledge = get_benchmark(benchmark, settings.further).dimension in (ADAPTATION, EDITING)
    return (own.adaptation if is_about_knowledge else own.retention) or settings.pictures


def _all_questions(name: str, settings: Settings, store: Store, tasks: Sequence[BenchmarkTask]) -> tuple[Question, ...]:
    """A benchmark's questions, whatever the limit; in a miniature run, a real benchmark's name means its miniature."""
    asked = [get_benchmark(each, settings.further) for each in settings.benchmarks]
    own = {info.original: info for info in asked if info.further is None}
    mini = all(info.size == "mini" for info in own.values()) and not name.startswith(MINI_PREFIX)
    info = own.get(name) or get_benchmark(f"{MINI_PREFIX}{name}" if mini else name)
    loaded = [task.questions for task in tasks if task.name == info.name and settings.limit is None]
    return loaded[0] if loaded else tuple(_open(info, settings, store).questions())


def injection_file(settings: Settings) -> Path:
    """The file with the new knowledge, or the folder of its tables.

    Raises:
        UserError: The settings name a sequence of several such files.
    """
    if settings.data.knowledge is None:
        hint = "set stages=1 and data.knowledge=FILE for one data set"
        raise UserError("the knowledge is a sequence of data sets", location="stages", hint=hint)
    return knowledge_file(settings.data.knowledge)


def _existing(file: Path, setting: str, names: Sequence[str]) -> Path:
    """The file, if there is one.

    Args:
        file: A file, or a folder of tables.
        setting: The one that names it, or the folder where it is looked for.
        names: What it may be called in that folder.

    Raises:
        UserError: There is none; names the setting.
    """
    if not file.exists():
        hint = f"set {setting} to a file, or to a folder with one of {', '.join(names)}"
        raise UserError(f"there is no {file.name} here", location=f"{setting} ({file.parent})", hint=hint)
    return file


def knowledge_file(path: Path) -> Path:
    """The file with a data set's knowledge, or the folder of its tables."""
    return find_rows(path, (INJECTION_FILE, *KNOWLEDGE_FILES))


def evaluation_file(settings: Settings) -> Path:
    """The file with questions about the new knowledge: beside it, or the split ``test`` of its tables.

    Raises:
        UserError: As ``injection_file``, if no file is named.
    """
    return settings.data.evaluation or _questions_beside(injection_file(settings))


def question_files(settings: Settings) -> dict[str, Path]:
    """The file with the questions about each stage of a sequence, by the stage's name.

    Raises:
        UserError: A stage has none, or two stages have the same.
    """
    files: dict[str, Path] = {}
    for number, stage in enumerate(settings.sequence, 1):
        given = stage.evaluation or _questions_beside(knowledge_file(stage.knowledge))
        file = find_rows(given, QUESTION_FILES)
        where = f"stages, number {number} ({stage.name}): {file}"
        if not file.exists():
            hint = "name them: {knowledge: ..., evaluation: FILE}"
            raise UserError("there are no questions about this stage", location=where, hint=hint)
        if file in files.values():
            other = next(name for name, taken in files.items() if taken == file)
            hint = "give each stage a file of its own: {knowledge: ..., evaluation: FILE}"
            raise UserError(f"the stage {other!r} has these questions too", location=where, hint=hint)
        files[stage.name] = file
    return files


def _questions_beside(knowledge: Path) -> Path:
    if not knowledge.is_dir():
        found = (knowledge.with_name(name) for name in QUESTION_FILES)
        return next((file for file in found if file.is_file()), knowledge.with_name(EVOKE_FILE))
    return knowledge if TEST in table_files(knowledge) else knowledge / EVOKE_FILE


def editing_file(settings: Settings) -> Path:
    """The file with the questions of editing's measures: beside those about the new knowledge, or these themselves."""
    if settings.data.editing:
        return settings.data.editing
    questions = evaluation_file(settings)
    found = (questions.with_name(name) for name in EDITING_FILES)
    return next((file for file in found if file.is_file()), questions) if not questions.is_dir() else questions
