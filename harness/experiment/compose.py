"""From the outputs of a run's cells to the plain record that every report is made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from benchmarks.records import Answer, ItemScore
from benchmarks.registry import get_benchmark
from benchmarks.retention_specs import CLASS_OF_LLAVA
from benchmarks.thinking import any_thinking, without_thinking
from harness.config import sweep
from harness.config.extras import BUILTIN
from harness.config.settings import ResolvedSettings
from harness.data.answering import answering_notes, engine_asked_for, picture_text
from harness.data.inputs import BenchmarkTask, RunInputs
from harness.data.knowledge_split import stages_signature
from harness.data.row_accounts import account_notes
from harness.experiment.cell import Cell
from harness.experiment.draws import describe_draws, related_benchmarks, related_note
from harness.experiment.imported_answers import read_record
from harness.experiment.outputs import CellOutput, StageOutput, engine_notes
from harness.storage.digests import knowledge_digest
from harness.storage.provenance import VERSION, environment
from methods.base import InjectionMethod
from reports.html.sample_browser import thumbnail
from reports.marks import CONTEXT, LEAKED, LIMITED, ORACLE, OTHER_ENGINE, RELATED, RULE_JUDGE, TRANSDUCTIVE, UNJUDGED
from reports.record import (
    VANILLA,
    BenchmarkResult,
    CellResult,
    Cost,
    ItemResult,
    QuestionEntry,
    Run,
    Setting,
    StageResult,
    TrainingStep,
)
from reports.statistics.ratios import item_score

PROTOCOL_NOTES = {
    "llava": "by LLaVA's own protocol.",
    CLASS_OF_LLAVA: "asked as VLMEvalKit's own class for LLaVA asks.",
}
"""What a run says about miniatures that are not asked with VLMEvalKit's prompts for any model."""
TITLE_ROWS = 6
"""Rows that a run's title names; more are only counted."""


def compose(
    outputs: Sequence[CellOutput],
    inputs: RunInputs,
    resolved: ResolvedSettings,
    signature: str,
    further_notes: Sequence[str] = (),
) -> Run:
    """The record of a run. It contains no path and no time of day."""
    settings = resolved.settings
    entries, pictures = _questions(inputs.tasks)
    names = list(dict.fromkeys(output.cell.row or output.cell.name for output in outputs if output.cell.settings))
    notes = list(settings.notes)
    if settings.limit is not None:
        notes.append(
            f"Limited to {settings.limit} knowledge items and questions of each benchmark; for trying out only."
        )
    if settings.stage_count > 1:
        named = f" ({', '.join(stage.name for stage in settings.sequence)})" if settings.sequence else ""
        notes.append(
            f"The knowledge was injected in {settings.stage_count} stages{named}, one after the other; scores are "
            "those after the last, unless a table says otherwise."
        )
    notes += _protocol_notes(inputs.tasks)
    related = {output.cell.label: _related(output, inputs) for output in outputs}
    notes += [related_note(label, found) for label, found in related.items() if found]
    notes += [*answering_notes(settings), *engine_notes(outputs), *further_notes]
    notes += account_notes(inputs, settings.limit)
    return Run(
        title=f"{resolved.preset}: {_join_rows(names)}",
        preset=resolved.preset,
        cells=tuple(_cell(output, inputs, resolved) for output in outputs),
        questions=tuple(entries),
        pictures=pictures,
        notes=tuple(notes),
        signature=signature,
        further={task.name: task.further for task in inputs.tasks if task.further},
    )


def _protocol_notes(tasks: Sequence[BenchmarkTask]) -> Iterator[str]:
    """Which miniatures are asked by which protocol; ``answering_notes`` says it of the published size."""
    minis = [task for task in tasks if not task.further and get_benchmark(task.name).size == "mini"]
    for protocol, note in PROTOCOL_NOTES.items():
        names = [task.name for task in minis if getattr(task.benchmark, "protocol", "") == protocol]
        if names:
            yield f"{', '.join(names)}: {note}"


def _join_rows(rows: Sequence[str]) -> str:
    """The names of the rows, or their number if they are many."""
    return f"{len(rows)} methods and variants" if len(rows) > TITLE_ROWS else ", ".join(rows) or VANILLA


def run_signature(resolved: ResolvedSettings, inputs: RunInputs, base: str, device: str, precision: str) -> str:
    """How a run was made, on one line."""
    software = environment()
    parts = {
        "preset": resolved.preset,
        "base": base[:12],
        "device": device,
        "precision": precision,
        "decoding": f"greedy, batch {resolved.settings.answering.batch_size}",
        "engine": engine_asked_for(resolved.settings),
        "limit": str(resolved.settings.limit) if resolved.settings.limit else "",
        "knowledge": knowledge_digest(inputs.knowledge)[:12],
        "stages": stages_signature(inputs, resolved.settings.stage_count),
        "harness": VERSION,
        **{name: software[name] for name in ("python", "torch", "transformers", "peft", "ms-vlmeval")},
    }
    return "|".join(f"{name}:{value}" for name, value in parts.items() if value)


def _cell(output: CellOutput, inputs: RunInputs, resolved: ResolvedSettings) -> CellResult:
    cell, training = output.cell, output.training
    method = cell.make() if cell.settings else None
    marks = [LIMITED] if resolved.settings.limit is not None else []
    marks += [TRANSDUCTIVE] if _transductive(cell) else []
    marks += [LEAKED] if output.leaks else []
    marks += [ORACLE if method.oracle else CONTEXT] if method and method.overrides("ask") else []
    marks += [OTHER_ENGINE] if output.answering.engine != BUILTIN else []
    related = _related(output, inputs)
    draws = describe_draws(training.get("draws", ()))
    scored = [task for task in inputs.tasks if task.name in output.scores]
    return CellResult(
        model=resolved.settings.label or resolved.settings.model.name,
        method=cell.method,
        label=cell.label,
        seed=cell.seed,
        variant=cell.variant,
        data=_data(method),
        status=output.status,
        reason=output.reason,
        marks=(*marks, *([RELATED] if related else [])),
        crossed={name: sweep.display_value(name, value) for name, value in cell.coordinates.items()},
        swept=cell.swept,
        curve=cell.curve,
        size_reference=bool(cell.settings) and cell.scale is None and cell.name == resolved.settings.size_reference,
        summary=_summary(cell),
        our_reading=". ".join(filter(None, [_reading(cell, method), draws])) if method else "",
        settings=_settings(cell, resolved),
        code=cell.user_code,
        training=tuple(TrainingStep(*step) for step in training.get("log", ())),
        branches=training.get("branches", {}),
        cost=Cost(**{**training.get("cost", {}), "answering_seconds": output.answering_seconds}),
        scores={
            task.name: _score(output, task, (*marks, *([RELATED] if task.name in related else []))) for task in scored
        },
        diagnostics=training.get("diagnostics") or training.get("figures", {}),  # "figures" in older runs
        signature=output.signature,
        answering=output.answering,
        stages=tuple(_stage(output, stage, inputs) for stage in output.stages if stage.stage.status == "ok"),
        evaluation_inputs=method.evaluation_inputs if method else (),
    )


def _related(output: CellOutput, inputs: RunInputs) -> dict[str, list[str]]:
    """Benchmarks that were made from the same data sets as samples that the cell drew, with these data sets."""
    return related_benchmarks(output.training.get("draws", ()), [t.name for t in inputs.tasks if not t.further])


def _stage(output: CellOutput, stage: StageOutput, inputs: RunInputs) -> StageResult:
    """K.A of each question after a stage; after the last, of all of the benchmark's questions."""
    name = inputs.adaptation_task.name
    scores = output.scores if stage.stage.is_last else stage.scores
    asked = {question for each in output.stages for question in each.question_ids}
    items = scores[name].items if name in scores else ()
    return StageResult(
        number=stage.stage.number,
        items=len(stage.stage.knowledge),
        questions=stage.question_ids,
        adaptation={item.question_id: item_score(item.values) for item in items if item.question_id in asked},
        name=stage.stage.name,
    )


def _data(method: InjectionMethod | None) -> str:
    """What a row was trained on, without a path."""
    if method is None:
        return ""
    data = method.settings.data
    return str(sweep.display_value(sweep.DATA, data)) if method.trains else data


def _summary(cell: Cell) -> str:
    """A row's method and variant, in a few words."""
    if cell.settings is None:
        return ""
    method = cell.make()
    recorded = read_record(cell.answers_file) if cell.answers_file else {}
    if recorded:
        return f"Answers of {recorded['model']}, asked at {recorded['endpoint']}."
    variant = method.get_variant(cell.variant)
    also = f"Also asked for as {', '.join(cell.also)}." if cell.also else ""
    scaled = (
        "" if cell.scale is None else f"The update of {cell.source} times {cell.scale:g}, whose training it shares."
    )
    return " ".join(filter(None, [method.summary, variant.help if variant else "", scaled, also]))


def _reading(cell: Cell, method: InjectionMethod) -> str:
    """Where the method is our interpretation, or what is not known of a model behind an endpoint."""
    if cell.answers_file and read_record(cell.answers_file):
        return (
            "asked over an API; which weights answered, and what the endpoint did to prompts and pictures, is not known"
        )
    return method.interpretation


def _transductive(cell: Cell) -> bool:
    """Whether the row's method has seen inputs of an evaluation benchmark."""
    if cell.settings is None:
        return False
    method = cell.make()
    variant = method.get_variant(cell.variant)
    return bool(method.evaluation_inputs) or (variant is not None and variant.transductive)


def _settings(cell: Cell, resolved: ResolvedSettings) -> dict[str, Setting]:
    if cell.settings is None:
        return {}
    settings = {}
    values = cell.settings.values
    by_content = dataclasses.asdict(values) | values.cache_key()  # training data without their path
    for name, origin in cell.settings.origins.items():
        value = by_content[name]
        settings[name] = Setting(list(value) if isinstance(value, tuple) else value, origin)
    if cell.answers_file:
        recorded = read_record(cell.answers_file)
        return settings | {name: Setting(value, "record of the answers") for name, value in recorded.items()}
    if not cell.make().trains:
        return settings
    for field, value in (resolved.settings.training.model_dump(mode="json") | dict(cell.training)).items():
        name = f"{sweep.TRAINING_PREFIX}{field}"
        settings[name] = Setting(value, cell.settings.training_origins.get(field, resolved.origin(name)))
    return settings


def _score(output: CellOutput, task: BenchmarkTask, marks: tuple[str, ...]) -> BenchmarkResult:
    score = output.scores[task.name]
    answers = {answer.question_id: answer for answer in output.answers[task.name].answers}
    unscored = score.headline is None and task.benchmark.has_headline
    own = [UNJUDGED] if unscored else [RULE_JUDGE] if score.judge == "rule" else []
    signature = getattr(task.benchmark, "signature", lambda: task.name)()
    return BenchmarkResult(
        headline=score.headline,
        metrics=dict(score.metrics),
        items=tuple(_item(item, answers[item.question_id]) for item in score.items),
        judge=score.judge,
        notes=score.notes,
        marks=(*marks, *own),
        signature=f"{signature}{_pictures(task)}{_engine(output)}|n {len(score.items)}|data {task.fingerprint[:12]}",
    )


def _item(score: ItemScore, answer: Answer) -> ItemResult:
    text = "\n\n".join(answer.texts)
    truncated, thinking = without_thinking(answer).truncated, any_thinking([answer])
    return ItemResult(score.question_id, dict(score.values), text, score.status, truncated, thinking)


def _engine(output: CellOutput) -> str:
    """The part of the signature that says what answered, if not the built-in engine."""
    engine = output.answering.engine
    return "" if engine == BUILTIN else f"|engine {engine}"


def _pictures(task: BenchmarkTask) -> str:
    """The part of the signature that says how pictures were prepared, if not as the model's folder says."""
    text = picture_text(task.pictures)
    return f"|pictures {text}" if text else ""


def _questions(tasks: Sequence[BenchmarkTask]) -> tuple[list[QuestionEntry], dict[str, str]]:
    """Every question once, and the thumbnails of their pictures by content."""
    entries: list[QuestionEntry] = []
    thumbnails: dict[str, str] = {}
    for task in tasks:
        for question in task.questions:
            keys = tuple(picture.sha256[:16] for picture in question.pictures)
            for key, picture in zip(keys, question.pictures, strict=True):
                if key not in thumbnails:
                    thumbnails[key] = thumbnail(picture.pixels())
            entries.append(
                QuestionEntry(
                    id=question.id,
                    benchmark=task.name,
                    text="\n\n".join(question.turns),
                    reference=question.reference,
                    type=question.type,
                    group=question.group,
                    cluster=question.cluster,
                    pictures=keys,
                )
            )
    return entries, thumbnails
