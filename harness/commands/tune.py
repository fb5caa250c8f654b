"""Search each method's learning rate and own coefficient on held-out knowledge, with the same budget for every method.

At one shared learning rate a method can look protective only because it has not learnt. The tuning slice shares no item
with the knowledge that is reported on, and no evaluation question is ever looked at. Settings are chosen by HARS, the
harmonic mean of the gain in K.A and of what is kept: here of old lessons, fresh ones from the data that the base was
pre-trained on. Where a preset has no such data, the rate alone is searched, by K.A.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks.data.knowledge import load_knowledge
from benchmarks.errors import UserError
from benchmarks.records import Conversation
from benchmarks.registry import ADAPTATION, TUNING_FILES, get_benchmark
from harness.commands.tuning_trials import EXTRA, FIELD, Trial, best_of, edges, fragment, mark, near, parse_rates
from harness.config.method_settings import ResolvedMethodSettings
from harness.config.settings import Request, ResolvedSettings, Settings
from harness.data.inputs import injection_file
from harness.experiment.answer import adapter_loaded
from harness.experiment.cell import Cell
from harness.experiment.context import RunContext, Say, build_context, locked
from harness.experiment.products import CellOutput
from harness.experiment.resources import CellResources
from harness.experiment.run_cell import run_cell
from harness.experiment.score import score_all
from harness.experiment.stage_runner import stages_of
from harness.storage.digests import sample_digest
from harness.storage.store import atomic_write, digest
from methods.base import Coefficient

FRAGMENT = "tuned.yaml"
KEPT = "kept"
"""The kind of entry that holds how much a model still knows of the old lessons."""
LESSONS = 128
"""Old lessons behind that number."""


@dataclass(frozen=True)
class TuningResult:
    """Everything that was tried, the part of a preset that says so, and its file."""

    trials: tuple[Trial, ...]
    warnings: tuple[str, ...]
    text: str
    path: Path


def tune(request: Request, rates: str | None, say: Say) -> TuningResult:
    """Try each method on the tuning slice, choose its settings, and write down all that was tried.

    Every method gets as many trials: one for each rate, then two of its coefficient at the best rate or, where it has
    none (or there is no old data to judge it by), of two more rates.

    Args:
        request: The methods, over the preset whose tuning slice is used.
        rates: Learning rates by comma; None for the usual ones.
        say: Tells the user what is going on.

    Raises:
        UserError: The preset has no tuning slice, or a rate is no positive number.
    """
    wanted = parse_rates(rates)
    with locked(request.out):
        context = build_context(dataclasses.replace(request, resolved=on_tuning_slice(request.resolved)), say)
        context.store.remove_partials()
        lessons = _lessons(context)
        untouched, *cells = context.cells
        base = _trial(context, [untouched], {}, lessons)
        rows: dict[str, list[Cell]] = {}
        for cell in cells:
            rows.setdefault(cell.name, []).append(cell)
        trials = [base, *(one for each in rows.values() for one in _search(context, each, wanted, lessons, base))]
        text = fragment(trials, _heading(context, bool(lessons)))
        atomic_write(request.out / FRAGMENT, text)
    return TuningResult(tuple(trials), tuple(edges(trials)), text, request.out / FRAGMENT)


def on_tuning_slice(resolved: ResolvedSettings) -> ResolvedSettings:
    """The same settings over the knowledge and the questions of the tuning slice alone, for as many steps.

    Raises:
        UserError: The preset has no tuning slice, or no benchmark of adaptation.
    """
    settings = resolved.settings
    folder = settings.data.knowledge if settings.data.knowledge.is_dir() else settings.data.knowledge.parent
    files = {name: folder / file for name, file in TUNING_FILES.items()}
    for file in files.values():
        if not file.is_file():
            raise UserError("the tuning slice is missing", location=str(file), hint="put the file there")
    asked = tuple(name for name in settings.benchmarks if get_benchmark(name).dimension == ADAPTATION)
    if not asked:
        raise UserError(
            "no benchmark of new knowledge is named", location="benchmarks", hint="add one: `harness list` shows them"
        )
    data = settings.data.model_copy(update={"knowledge": files["injection"], "evaluation": files["evaluation"]})
    training = settings.training.model_copy(update={"epochs": _as_long(settings, files["injection"])})
    alone = {"data": data, "benchmarks": asked[:1], "stages": 1, "cross": (), "training": training}
    return dataclasses.replace(resolved, settings=settings.model_copy(update=alone))


def _as_long(settings: Settings, held_out: Path) -> int:
    """Epochs over the slice that make about as many steps as training on all the knowledge.

    What a rate does depends on how many steps it is kept up: one chosen in a quarter of the steps is too high.
    """
    whole, part = (len(load_knowledge(file)[: settings.limit]) for file in (injection_file(settings), held_out))
    return max(1, round(settings.training.epochs * whole / part))


def _search(
    context: RunContext, cells: Sequence[Cell], rates: Sequence[float], lessons: Sequence[Conversation], base: Trial
) -> list[Trial]:
    """All trials of one method, the best marked."""

    def tried(settings: Sequence[Mapping[str, float]]) -> list[Trial]:
        return [_trial(context, cells, each, lessons, base) for each in settings]

    first = tried([{FIELD: rate} for rate in rates])
    best, own = best_of(first), cells[0].make().coefficient
    if own is None or best is None or not lessons:
        trials = first + tried([{FIELD: rate} for rate in near(rates, best.rate if best else None)])
        return mark(trials, best_of(trials))
    usual = getattr(cells[0].settings.values if cells[0].settings else None, own.setting)
    held = dataclasses.replace(best, settings={**best.settings, own.setting: usual})
    second = [held, *tried([{FIELD: best.rate, own.setting: value} for value in _others(own, usual)])]
    return mark([*(trial for trial in first if trial is not best), *second], best_of(second))


def _others(coefficient: Coefficient, usual: float) -> list[float]:
    """The values of the grid that are tried beside the present one: equally many for each method."""
    return [value for value in coefficient.grid if value != usual][:EXTRA]


def _trial(
    context: RunContext,
    cells: Sequence[Cell],
    values: Mapping[str, float],
    lessons: Sequence[Conversation],
    base: Trial | None = None,
) -> Trial:
    """Train, ask and score one method with some settings; over several seeds the mean. The base has no base."""
    (asked,) = context.sources.asked
    products = []
    for cell in (set_to(one, values) for one in cells):
        context.say(" ".join([cell.title, *(f"{name} {value:g}" for name, value in values.items())]))
        products.append(run_cell(context, cell))
    score_all(context.store, products, context.sources.asked)
    bad = next((product.reason for product in products if product.status != "ok"), "")
    scores = [product.scores[asked.name].headline for product in products if product.status == "ok"]
    known = [score for score in scores if score is not None]
    if bad or len(known) < len(products):
        return Trial(cells[0].name, values, reason=bad or "not scored")
    score = fmean(known)
    kept = fmean(_kept(context, product, lessons) for product in products) if lessons else None
    trial = Trial(cells[0].name, values, score, kept)
    return trial.over(base) if base else trial


def set_to(cell: Cell, values: Mapping[str, float]) -> Cell:
    """The cell with other values of some settings."""
    if cell.settings is None:
        return cell
    made = dataclasses.replace(cell.settings.values, **values)
    return dataclasses.replace(
        cell, settings=ResolvedMethodSettings(made, {**cell.settings.origins, **dict.fromkeys(values, "tune")})
    )


def _lessons(context: RunContext) -> Sequence[Conversation]:
    """Old lessons of which no method is given any; none where the preset has no old data."""
    if context.settings.data.old == "none":
        return ()
    return CellResources(0, context.sources.old, context.store, {}).pretraining_samples(LESSONS, "tuning")


def _kept(context: RunContext, product: CellOutput, lessons: Sequence[Conversation]) -> float:
    """Share of the lessons' supervised tokens that the model finds likeliest, on 0-100."""
    cell, adapter = product.cell, str(product.training.get("adapter", ""))
    content = digest([sample_digest(lesson) for lesson in lessons])
    recipe = {**cell.answers_recipe(context.cache_inputs, adapter, ()), "lessons": content}
    stored = context.store.read_json(KEPT, recipe)
    if stored is None:
        with adapter_loaded(context, stages_of(context, cell)[0] if cell.settings else None):
            stored = context.store.write_json(KEPT, recipe, _predicted(context, lessons))
    return float(stored)


def _predicted(context: RunContext, lessons: Sequence[Conversation]) -> float:
    import torch

    right = total = 0
    size = context.settings.training.micro_batch
    with torch.inference_mode():
        for start in range(0, len(lessons), size):
            batch = context.model.training_batch(lessons[start : start + size])
            logits, targets = context.model.supervised(batch)
            right += int((logits.argmax(dim=-1) == targets).sum())
            total += len(targets)
    return 100 * right / total


def _heading(context: RunContext, judged: bool) -> str:
    """What the trials were, for the head of the file."""
    (asked,) = context.sources.asked
    count, epochs = len(context.sources.knowledge), context.settings.training.epochs
    lines = [
        f"Tuned on the slice of preset {context.request.resolved.preset} that is held out for it: {count} items, "
        f"{len(asked.questions)} questions; {epochs} epochs make as many steps as training on all the knowledge.",
        "Every method had as many trials.",
    ]
    if judged:
        lines.append(
            f"HARS is that of the gain in K.A over the untouched base and of what is kept of {LESSONS} old lessons."
        )
    else:
        lines.append("The preset has no old data by which to see what a coefficient protects: rates alone, by K.A.")
    return "\n".join(lines)
