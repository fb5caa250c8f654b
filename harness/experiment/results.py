"""From a run's products to the plain record that every report is made from, and the report made from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError
from benchmarks.records import Question
from harness.config import sweep as crossing
from harness.config.settings import ResolvedSettings
from harness.data.inputs import BenchmarkTask, RunInputs
from harness.experiment.cell import Cell
from harness.experiment.products import CellOutput, StageOutput
from harness.experiment.stages import about_knowledge
from harness.storage.provenance import environment
from harness.storage.store import atomic_write
from reports import record as record
from reports.html.thumbnails import thumbnail
from reports.statistics.ratios import item_score

RESULTS = "results.json"
PRODUCTS = "products.json"
REPORT = "report"
LIMITED, TRANSDUCTIVE, UNJUDGED, RULE_JUDGE, LEAKED = "limited", "transductive", "unjudged", "rule-judge", "leaked"
TITLE_ROWS = 6
"""Rows that a run's title names."""
KNOWLEDGE_DATA = "data"
"""The setting by which a method names its training data."""


def compose(
    products: Sequence[CellOutput], sources: RunInputs, resolved: ResolvedSettings, signature: str
) -> record.Run:
    """The record of a run. It holds no path and no time of day."""
    settings = resolved.settings
    entries, pictures = _questions(sources.asked)
    names = list(dict.fromkeys(each.cell.row or each.cell.name for each in products if each.cell.settings))
    notes = list(settings.notes)
    if settings.limit is not None:
        notes.append(
            f"Limited to {settings.limit} knowledge items and questions of each benchmark; for trying out only."
        )
    if settings.stages > 1:
        notes.append(
            f"The knowledge was injected in {settings.stages} stages, one after the other; scores are those after the "
            "last, unless a table says otherwise."
        )
    scripts = [each.name for each in sources.asked if getattr(each.benchmark, "protocol", "") == "llava"]
    if scripts:
        notes.append(
            f"{', '.join(scripts)}: by LLaVA's own protocol; every other benchmark of the twelve by VLMEvalKit's."
        )
    return record.Run(
        title=f"{resolved.preset}: {_named(names)}",
        preset=resolved.preset,
        cells=tuple(_cell(product, sources, resolved) for product in products),
        questions=tuple(entries),
        pictures=pictures,
        notes=tuple(notes),
        signature=signature,
    )


def _named(rows: Sequence[str]) -> str:
    """The rows by name or, where they are many, how many."""
    return f"{len(rows)} methods and variants" if len(rows) > TITLE_ROWS else ", ".join(rows) or record.VANILLA


def run_signature(resolved: ResolvedSettings, base: str, device: str, precision: str) -> str:
    """How a run was made, in one line."""
    made_by = environment()
    parts = {
        "preset": resolved.preset,
        "base": base[:12],
        "device": device,
        "precision": precision,
        "decoding": f"greedy, batch {resolved.settings.answering.batch_size}",
        "limit": str(resolved.settings.limit) if resolved.settings.limit else "",
        "stages": str(resolved.settings.stages) if resolved.settings.stages > 1 else "",
        **{name: made_by[name] for name in ("python", "torch", "transformers", "peft", "ms-vlmeval")},
    }
    return "|".join(f"{name}:{value}" for name, value in parts.items() if value)


def write_results(run: record.Run, products: Sequence[CellOutput], out: Path) -> None:
    """Write the record into the run's folder, and beside it where in the store each cell's products lie."""
    places = [
        {
            "label": product.cell.label,
            "seed": product.cell.seed,
            "training": product.training_key,
            "answers": product.answer_keys,
            **_stage_places(product),
        }
        for product in products
    ]
    atomic_write(out / PRODUCTS, json.dumps(places, indent=1) + "\n")
    atomic_write(out / RESULTS, record.to_json(run))


def _stage_places(product: CellOutput) -> dict[str, Any]:
    found = [{"training": stage.training_key, "answers": stage.answers_key} for stage in product.stages]
    return {"stages": found} if found else {}


def read_places(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """By label and seed of a cell: the keys of its training and of its answers.

    Raises:
        UserError: The file is missing or damaged.
    """
    path = folder / PRODUCTS
    try:
        return {(str(row["label"]), int(row["seed"])): dict(row) for row in json.loads(path.read_text("utf-8"))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"it cannot be read ({error})", location=str(path), hint="run compare again") from error


def write_report(run: record.Run, out: Path) -> Path:
    """Make tables, plots and the leaderboard; returns the leaderboard's file."""
    from reports.build import build

    return build(run, out / REPORT, atomic_write)[0]


def read_results(folder: Path) -> record.Run:
    """Read a run's record.

    Raises:
        UserError: The folder holds no finished run.
    """
    path = folder / RESULTS
    if not path.is_file():
        raise UserError(
            "there is no finished run here", location=str(folder), hint="give the folder that compare wrote to"
        )
    return record.from_json(path.read_bytes(), where=str(path))


def _cell(product: CellOutput, sources: RunInputs, resolved: ResolvedSettings) -> record.CellResult:
    cell, training = product.cell, product.training
    method = cell.make() if cell.settings else None
    marks = [LIMITED] if resolved.settings.limit is not None else []
    marks += [TRANSDUCTIVE] if _transductive(cell) else []
    marks += [LEAKED] if product.leaks else []
    return record.CellResult(
        model=resolved.settings.label or resolved.settings.model.name,
        method=cell.method,
        label=cell.label,
        seed=cell.seed,
        variant=cell.variant,
        data=crossing.display_value(KNOWLEDGE_DATA, getattr(method.settings, KNOWLEDGE_DATA)) if method else "",
        status=product.status,
        reason=product.reason,
        marks=tuple(marks),
        crossed={name: crossing.display_value(name, value) for name, value in cell.crossed.items()},
        swept=cell.swept,
        curve=cell.curve,
        summary=_summary(cell),
        our_reading=method.interpretation if method else "",
        settings=_settings(cell, resolved),
        training=tuple(record.TrainingStep(*step) for step in training.get("log", ())),
        cost=record.Cost(**{**training.get("cost", {}), "answering_seconds": product.answering_seconds}),
        scores={
            asked.name: _score(product, asked, tuple(marks)) for asked in sources.asked if asked.name in product.scores
        },
        diagnostics=training.get("diagnostics", {}),
        signature=product.signature,
        stages=tuple(_stage(product, stage, sources) for stage in product.stages if stage.training["status"] == "ok"),
    )


def _stage(product: CellOutput, stage: StageOutput, sources: RunInputs) -> record.StageResult:
    """K.A of each question after a stage; after the last it is that of the whole benchmark's questions."""
    name = about_knowledge(sources.asked).name
    scores = product.scores if stage.step.last else stage.scores
    wanted = {question for each in product.stages for question in each.about}
    items = scores[name].items if name in scores else ()
    return record.StageResult(
        number=stage.step.number,
        items=len(stage.step.knowledge),
        questions=stage.about,
        adaptation={item.question_id: item_score(item.values) for item in items if item.question_id in wanted},
    )


def _summary(cell: Cell) -> str:
    """What a row is, in a few words."""
    if cell.settings is None:
        return ""
    method = cell.make()
    variant = method.variant(cell.variant)
    also = f"Also asked for as {', '.join(cell.also)}." if cell.also else ""
    return " ".join(filter(None, [method.summary, variant.help if variant else "", also]))


def _transductive(cell: Cell) -> bool:
    """Whether the row's method has seen inputs of an evaluation benchmark."""
    if cell.settings is None:
        return False
    method = cell.make()
    variant = method.variant(cell.variant)
    return bool(method.evaluation_inputs) or (variant is not None and variant.transductive)


def _settings(cell: Cell, resolved: ResolvedSettings) -> dict[str, record.Setting]:
    if cell.settings is None:
        return {}
    own = {name: crossing.display_value(name, getattr(cell.settings.values, name)) for name in cell.settings.origins}
    found = {name: record.Setting(_plain(value), cell.settings.origins[name]) for name, value in own.items()}
    shared = resolved.settings.training.model_dump(mode="json")
    core = {f"training.{name}": value for name, value in (shared | dict(cell.training)).items()}
    swept = {name: crossing.axis_origin(name) for name in core if name in cell.crossed}
    return found | {
        name: record.Setting(value, swept.get(name) or resolved.origin(name)) for name, value in core.items()
    }


def _plain(value: Any) -> Any:
    """A setting's value as JSON has it."""
    return list(value) if isinstance(value, tuple) else value


def _score(product: CellOutput, asked: BenchmarkTask, marks: tuple[str, ...]) -> record.BenchmarkResult:
    score = product.scores[asked.name]
    said = {answer.question_id: answer for answer in product.answers[asked.name]}
    own = [*marks]
    own += [UNJUDGED] if score.headline is None else [RULE_JUDGE] if score.judge == "rule" else []
    signature = getattr(asked.benchmark, "signature", lambda: asked.name)()
    return record.BenchmarkResult(
        headline=score.headline,
        metrics=dict(score.metrics),
        items=tuple(
            record.ItemResult(
                item.question_id, dict(item.values), "\n\n".join(said[item.question_id].texts), item.status
            )
            for item in score.items
        ),
        judge=score.judge,
        notes=score.notes,
        marks=tuple(own),
        signature=f"{signature}|n {len(score.items)}|data {asked.fingerprint[:12]}",
    )


def _questions(asked: Sequence[BenchmarkTask]) -> tuple[list[record.QuestionEntry], dict[str, str]]:
    """Every question once, and the thumbnails of their pictures by content."""
    entries: list[record.QuestionEntry] = []
    pictures: dict[str, str] = {}
    for each in asked:
        for question in each.questions:
            keys = []
            for picture in question.pictures:
                key = picture.sha256[:16]
                keys.append(key)
                if key not in pictures:
                    pictures[key] = thumbnail(picture.pixels())
            entries.append(_entry(each.name, question, tuple(keys)))
    return entries, pictures


def _entry(benchmark: str, question: Question, pictures: tuple[str, ...]) -> record.QuestionEntry:
    return record.QuestionEntry(
        id=question.id,
        benchmark=benchmark,
        text="\n\n".join(question.turns),
        reference=question.reference,
        type=question.type,
        group=question.group,
        cluster=question.cluster,
        pictures=pictures,
    )
