"""Search each method's learning rate and own coefficient on held-out knowledge, with the same budget for every method.

At one shared learning rate a method can look protective only because it has not learned. The tuning slice shares no
item with the knowledge that is reported on, and no evaluation question is used. Settings are chosen by HARS, the
harmonic mean of the gain in K.A and of retention, measured here on held-out samples of the replay pool.
Where a preset has no such data, only the rate is searched, by K.A.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.table import Table
from rich.text import Text

from benchmarks.data.knowledge import load_knowledge
from benchmarks.errors import UserError
from benchmarks.records import Conversation, content_digest
from benchmarks.registry import ADAPTATION, TUNING_FILES, get_benchmark
from harness.commands.tuning_trials import (
    EXTRA,
    RATE,
    Trial,
    best_of,
    edge_warnings,
    mark_best,
    parse_rates,
    preset_fragment,
    rates_near,
)
from harness.config.scaled_rows import refuse_scaled, split_scaled
from harness.config.schema import Pool, Settings
from harness.config.settings import Request, ResolvedSettings
from harness.console import print_lines, stdout
from harness.data.inputs import injection_file
from harness.data.pools import HELD_OUT, TUNING, open_pools
from harness.data.requirements import check_requirements
from harness.experiment.answer import adapter_loaded
from harness.experiment.cell import Cell
from harness.experiment.context import RunContext, build_context
from harness.experiment.outputs import CellOutput
from harness.experiment.preparation import prepare_run
from harness.experiment.resources import CellResources
from harness.experiment.run_cell import run_cell
from harness.experiment.score import score_all
from harness.experiment.stages import list_stages
from harness.storage.files import atomic_write, locked
from methods.registry import expand_names, get_method
from reports.record import VANILLA

logger = logging.getLogger(__name__)

FRAGMENT = "tuned.yaml"
KEPT = "kept"
"""The kind of entry that holds how many tokens of the held-out samples a model still predicts."""
HELDOUT_SAMPLES = HELD_OUT
"""Samples of the replay pool behind that number."""


@dataclass(frozen=True)
class TuningResult:
    """Everything that was tried, the part of a preset with the chosen settings, and its file."""

    trials: tuple[Trial, ...]
    warnings: tuple[str, ...]
    text: str
    path: Path


def tune(request: Request, rates: str | None) -> TuningResult:
    """Try each method on the tuning slice, choose its settings, and write down all that was tried.

    Every method gets the same number of trials: one for each rate, then two with other values of its coefficient at the
    best rate, or two more rates where it has no coefficient or there is no replay pool to judge it by.

    Args:
        request: The methods, over the preset whose tuning slice is used.
        rates: Learning rates by comma; None for the default ones.

    Raises:
        UserError: A method trains nothing, the preset has no tuning slice, a rate is not a positive number, or the
            model cannot take a text.
    """
    parsed = parse_rates(rates)
    request = dataclasses.replace(request, methods=_tunable(request.methods))
    check_requirements(request.resolved, request.methods, [Pool.REPLAY])
    with locked(request.out):
        context = build_context(dataclasses.replace(request, resolved=on_tuning_slice(request.resolved)))
        prepare_run(context)
        samples = _heldout_samples(context)
        untouched, *cells = context.cells
        base = _run_trial(context, [untouched], {}, samples)
        rows: dict[str, list[Cell]] = {}
        for cell in cells:
            rows.setdefault(cell.name, []).append(cell)
        trials = [base, *(trial for row in rows.values() for trial in _search(context, row, parsed, samples, base))]
        text = preset_fragment(trials, _heading(context, bool(samples)))
        atomic_write(request.out / FRAGMENT, text)
    return TuningResult(tuple(trials), tuple(edge_warnings(trials)), text, request.out / FRAGMENT)


def _tunable(names: Sequence[str]) -> tuple[str, ...]:
    """The rows that have a learning rate of their own; of ``all`` and other groups the rest is left out and logged.

    Raises:
        UserError: Another row is named itself.
    """
    tunable, left_out = [], []
    for name in expand_names(names):
        if name in names:
            refuse_scaled(name, "--methods")
        if split_scaled(name)[1] is None and name != VANILLA and get_method(name)[0].trains:
            tunable.append(name)
        elif name in names:
            problem = f"{name} trains nothing, so it has no learning rate"
            raise UserError(problem, location="--methods", hint="leave it out")
        else:
            left_out.append(name)
    if left_out:
        logger.info("not tuned, because they have no learning rate of their own: %s", ", ".join(left_out))
    return tuple(tunable)


def show_tuning(tuning: TuningResult) -> None:
    """Print the trials, the warnings, and the part of a preset with the chosen settings."""
    table = Table(
        "method", "settings", "K.A on the tuning slice", "replay pool kept", "HARS", "", box=None, pad_edge=False
    )
    for trial in tuning.trials:
        numbers = ["-" if value is None else f"{value:.2f}" for value in (trial.score, trial.kept, trial.hars)]
        note = "chosen" if trial.chosen else trial.reason
        table.add_row(Text(trial.method), Text(trial.description), *numbers, Text(note))
    stdout().print(table)
    print_lines(*tuning.warnings, "", tuning.text, f"written to {tuning.path}; copy its `methods` into a preset")


def on_tuning_slice(resolved: ResolvedSettings) -> ResolvedSettings:
    """Return the settings with only the knowledge and the questions of the tuning slice, for as many steps.

    Raises:
        UserError: The preset has no tuning slice, or no benchmark of adaptation.
    """
    settings = resolved.settings
    knowledge = settings.data.knowledge
    if knowledge is None:
        hint = "tune on one data set: --set stages=1 --set data.knowledge=FOLDER"
        raise UserError("a sequence of data sets has no tuning slice", location="stages", hint=hint)
    folder = settings.data.tuning or (knowledge if knowledge.is_dir() else knowledge.parent)
    files = {name: folder / file for name, file in TUNING_FILES.items()}
    for file in files.values():
        if not file.is_file():
            raise UserError("the tuning slice is missing", location=str(file), hint="put the file there")
    own = [name for name in settings.benchmarks if name not in settings.further]
    benchmarks = tuple(name for name in own if get_benchmark(name).dimension == ADAPTATION)
    if not benchmarks:
        raise UserError(
            "no benchmark of new knowledge is named", location="benchmarks", hint="add one: `harness list` shows them"
        )
    data = settings.data.model_copy(update={"knowledge": files["injection"], "evaluation": files["evaluation"]})
    changes = {"data": data, "benchmarks": benchmarks[:1], "stages": 1, "cross": ()}
    changes |= _scaled_epochs(settings, files["injection"])
    return dataclasses.replace(resolved, settings=settings.model_copy(update=changes))


def _scaled_epochs(settings: Settings, held_out: Path) -> dict[str, Any]:
    """The settings with epochs, of the run and of methods, that make about as many steps on the slice as on it all.

    The best rate depends on the number of steps: one chosen in a quarter of the steps is too high.
    """
    whole, part = (len(load_knowledge(file)[: settings.limit]) for file in (injection_file(settings), held_out))

    def scaled(epochs: int) -> int:
        return max(1, round(epochs * whole / part))

    methods = {name: dict(values) for name, values in settings.methods.items()}
    for values in methods.values():
        match values.get("training"):
            case {"epochs": int(epochs), **others}:  # anything else is refused when the methods are resolved
                values["training"] = {**others, "epochs": scaled(epochs)}
    return {
        "training": settings.training.model_copy(update={"epochs": scaled(settings.training.epochs)}),
        "methods": methods,
    }


def _search(
    context: RunContext, cells: Sequence[Cell], rates: Sequence[float], samples: Sequence[Conversation], base: Trial
) -> list[Trial]:
    """All trials of one method, the best marked."""

    def run(settings: Sequence[Mapping[str, float]]) -> list[Trial]:
        return [_run_trial(context, cells, values, samples, base) for values in settings]

    first = run([{RATE: rate} for rate in rates])
    best, coefficient = best_of(first), cells[0].make().coefficient
    if coefficient is None or best is None or not samples:
        trials = first + run([{RATE: rate} for rate in rates_near(rates, best.rate if best else None)])
        return mark_best(trials, best_of(trials))
    name = coefficient.setting
    default = getattr(cells[0].settings.values if cells[0].settings else None, name)
    others = [value for value in coefficient.grid if value != default][:EXTRA]  # the same number for each method
    at_default = dataclasses.replace(best, settings={**best.settings, name: default})
    second = [at_default, *run([{RATE: best.rate, name: value} for value in others])]
    return mark_best([*(trial for trial in first if trial is not best), *second], best_of(second))


def _run_trial(
    context: RunContext,
    cells: Sequence[Cell],
    values: Mapping[str, float],
    samples: Sequence[Conversation],
    base: Trial | None = None,
) -> Trial:
    """Train and score one method with some settings; over several seeds the mean. ``base`` is the untouched model's."""
    (task,) = context.inputs.tasks
    outputs = []
    for cell in (with_settings(cell, values) for cell in cells):
        logger.info(" ".join([cell.title, *(f"{name} {value:g}" for name, value in values.items())]))
        outputs.append(run_cell(context, cell))
    score_all(context.store, outputs, context.inputs.tasks)
    failure = next((output.reason for output in outputs if output.status != "ok"), "")
    headlines = [output.scores[task.name].headline for output in outputs if output.status == "ok"]
    scores = [score for score in headlines if score is not None]
    if failure or len(scores) < len(outputs):
        return Trial(cells[0].name, values, reason=failure or "not scored")
    kept = fmean(_retention(context, output, samples) for output in outputs) if samples else None
    trial = Trial(cells[0].name, values, fmean(scores), kept)
    return trial.over(base) if base else trial


def with_settings(cell: Cell, values: Mapping[str, float]) -> Cell:
    """Return the cell with other values of some settings."""
    if cell.settings is None:
        return cell
    changed = dataclasses.replace(cell.settings.values, **values)
    origins = {**cell.settings.origins, **dict.fromkeys(values, "tune")}
    return dataclasses.replace(cell, settings=dataclasses.replace(cell.settings, values=changed, origins=origins))


def _heldout_samples(context: RunContext) -> Sequence[Conversation]:
    """Samples of the replay pool that no method learns from; none where the preset has none.

    Raises:
        UserError: The pool is a file with too few samples to hold some out.
    """
    replay = context.settings.data.replay
    if replay == "none":
        return ()
    return CellResources(0, open_pools("none", replay), context.store, {}).pool_samples(HELDOUT_SAMPLES, TUNING)


def _retention(context: RunContext, output: CellOutput, samples: Sequence[Conversation]) -> float:
    """Share of the samples' supervised tokens that the model finds likeliest, on 0-100."""
    cell, adapter = output.cell, str(output.training.get("adapter", ""))
    key = {**cell.answers_key(context.cache_inputs, adapter, ()), "lessons": content_digest(samples)}
    stored = context.store.read_json(KEPT, key)
    if stored is None:
        with adapter_loaded(context, list_stages(context, cell)[0] if cell.settings else None):
            stored = context.store.write_json(KEPT, key, _accuracy(context, samples))
    return float(stored)


def _accuracy(context: RunContext, samples: Sequence[Conversation]) -> float:
    import torch

    right = total = 0
    size = context.settings.training.micro_batch
    with torch.inference_mode():
        for start in range(0, len(samples), size):
            batch = context.model.training_batch(samples[start : start + size])
            logits, targets = context.model.supervised(batch)
            right += int((logits.argmax(dim=-1) == targets).sum())
            total += len(targets)
    return 100 * right / total


def _heading(context: RunContext, by_hars: bool) -> str:
    """What the trials were, for the head of the file."""
    (task,) = context.inputs.tasks
    count, epochs = len(context.inputs.knowledge), context.settings.training.epochs
    lines = [
        f"Tuned on the slice of preset {context.request.resolved.preset} that is held out for it: {count} items, "
        f"{len(task.questions)} questions; {epochs} epochs make as many steps as training on all the knowledge.",
        "Every method had the same number of trials.",
    ]
    if by_hars:
        lines.append(
            "HARS: of the gain in K.A over the untouched base, and of the tokens it still predicts "
            f"in {HELDOUT_SAMPLES} held-out samples of the replay pool."
        )
    else:
        lines.append("The preset has no replay pool to show what a coefficient protects: only rates, by K.A.")
    return "\n".join(lines)
