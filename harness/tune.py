"""Search each method's learning rate on knowledge held out for that, with the same budget for every method.

At one shared learning rate a method can look protective only because it has not learnt. The tuning slice shares no item
with the knowledge that is reported on, and no evaluation question is ever looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.catalogue import ADAPTATION, TUNING_FILES, find
from benchmarks.errors import UserError
from harness.cells import Cell
from harness.compare import run_cell
from harness.results import CellProduct
from harness.scoring import score_all
from harness.settings import MethodSettings, Request, Resolved
from harness.store import write_whole
from harness.workshop import Say, Workshop, locked, open_workshop

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""Three a decade and more than two decades: what one method finds slow ruins another."""
FIELD = "learning_rate"
FRAGMENT = "tuned.yaml"


@dataclass(frozen=True)
class Trial:
    """One method at one learning rate. ``score`` is K.A on 0-100, None where the training did not end well."""

    method: str
    rate: float
    score: float | None
    reason: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class Tuning:
    """Everything that was tried, and the file that says so."""

    trials: tuple[Trial, ...]
    path: Path


def tune(request: Request, rates: str | None, say: Say) -> Tuning:
    """Train each method at each rate on the tuning slice, score its K.A there, and write down all of it.

    Args:
        request: The methods, over the preset whose tuning slice is used.
        rates: Learning rates by comma; None for the usual ones.
        say: Tells the user what is going on.

    Raises:
        UserError: The preset has no tuning slice, or a rate is no positive number.
    """
    wanted = parse_rates(rates)
    with locked(request.out):
        workshop = open_workshop(dataclasses.replace(request, resolved=on_tuning_slice(request.resolved)), say)
        workshop.store.sweep()
        cells = [at_rate(cell, rate) for cell in workshop.cells if cell.settings for rate in wanted]
        trials = choose(_trials(workshop, cells))
        path = request.out / FRAGMENT
        write_whole(path, fragment(trials, request.resolved.preset))
    return Tuning(tuple(trials), path)


def parse_rates(text: str | None) -> tuple[float, ...]:
    """Learning rates by comma.

    Raises:
        UserError: One of them is no positive number.
    """
    if text is None:
        return RATES
    try:
        rates = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(
            "these are no learning rates", where=f"--rates {text}", mend="write --rates 1e-3,3e-3"
        ) from error
    if not all(0 < rate < float("inf") for rate in rates):
        raise UserError("a learning rate is a positive number", where=f"--rates {text}", mend="write --rates 1e-3,3e-3")
    return tuple(sorted(set(rates)))


def on_tuning_slice(resolved: Resolved) -> Resolved:
    """The same settings over the knowledge and the questions of the tuning slice alone.

    Raises:
        UserError: The preset has no tuning slice, or no benchmark of adaptation.
    """
    settings = resolved.settings
    folder = settings.data.knowledge if settings.data.knowledge.is_dir() else settings.data.knowledge.parent
    files = {name: folder / file for name, file in TUNING_FILES.items()}
    for file in files.values():
        if not file.is_file():
            raise UserError("the tuning slice is missing", where=str(file), mend="put the file there")
    asked = tuple(name for name in settings.benchmarks if find(name).dimension == ADAPTATION)
    if not asked:
        raise UserError(
            "no benchmark of new knowledge is named", where="benchmarks", mend="add one: `harness list` shows them"
        )
    data = settings.data.model_copy(update={"knowledge": files["injection"], "evaluation": files["evaluation"]})
    return dataclasses.replace(
        resolved, settings=settings.model_copy(update={"data": data, "benchmarks": asked[:1], "stages": 1})
    )


def at_rate(cell: Cell, rate: float) -> Cell:
    """The cell with another learning rate."""
    if cell.settings is None:
        raise ValueError("the untouched base has no learning rate")
    values = dataclasses.replace(cell.settings.values, **{FIELD: rate})
    return dataclasses.replace(cell, settings=MethodSettings(values, {**cell.settings.origins, FIELD: "tune"}))


def choose(trials: Sequence[Trial]) -> list[Trial]:
    """Mark, for each method, the trial with the highest K.A; of equal ones the slowest."""
    best: dict[str, Trial] = {}
    for trial in sorted(trials, key=lambda one: one.rate):
        known = best.get(trial.method)
        if trial.score is not None and (known is None or known.score is None or trial.score > known.score):
            best[trial.method] = trial
    return [dataclasses.replace(trial, chosen=trial is best.get(trial.method)) for trial in trials]


def fragment(trials: Sequence[Trial], preset: str) -> str:
    """A part of a preset: the chosen rates, below a comment with all that was tried."""
    lines = [
        f"# Chosen by K.A on the tuning slice of preset {preset}; every method had the same trials.",
        "# method, learning rate, K.A:",
    ]
    for trial in trials:
        score = trial.reason if trial.score is None else f"{trial.score:.2f}"
        lines.append(f"#   {trial.method} {trial.rate:g} {score}{' chosen' if trial.chosen else ''}")
        rates = [other.rate for other in trials if other.method == trial.method]
        if trial.chosen and len(rates) > 1 and trial.rate in (min(rates), max(rates)):
            lines.append(f"#   {trial.method}: the best rate is at the edge of what was tried")
    chosen = {trial.method: {FIELD: trial.rate} for trial in trials if trial.chosen}
    return "\n".join(lines) + "\n" + str(yaml.safe_dump({"methods": chosen}, sort_keys=False))


def _trials(workshop: Workshop, cells: Sequence[Cell]) -> list[Trial]:
    """One trial for each cell; over several seeds the mean."""
    products: dict[tuple[str, float], list[CellProduct]] = {}
    for cell in cells:
        if cell.settings is not None:
            rate = float(getattr(cell.settings.values, FIELD))
            workshop.say(f"{cell.title} at {rate:g}")
            products.setdefault((cell.name, rate), []).append(run_cell(workshop, cell))
    asked = workshop.sources.asked
    score_all(workshop.store, [product for found in products.values() for product in found], asked)
    trials = []
    for (name, rate), found in products.items():
        scores = [product.scores[asked[0].name].headline for product in found if product.status == "ok"]
        known = [score for score in scores if score is not None]
        whole = len(known) == len(found)
        reason = next((product.reason for product in found if product.status != "ok"), "")
        trials.append(Trial(name, rate, sum(known) / len(known) if whole else None, reason))
    return trials
