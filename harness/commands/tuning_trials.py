"""What ``tune`` tries: which settings, which of them was best, and the part of a preset that says so. No model here."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import yaml

from benchmarks.aggregate import hars
from benchmarks.errors import UserError

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""Two a decade over two decades: what one method finds slow ruins another."""
FIELD = "learning_rate"
EXTRA = 2
"""Trials after those of the rates: of the method's own coefficient or, where it has none, of rates near the best."""


@dataclass(frozen=True)
class Trial:
    """One method with some settings.

    Args:
        method: Method and variant; for the untouched base its name.
        settings: What was set; nothing for the base.
        score: K.A on the tuning slice, on 0-100; None where the training did not end well.
        kept: Share of the tokens of old lessons that it still predicts, on 0-100; None without old data.
        hars: Harmonic mean of the gain over the untouched base and of what is kept, on 0-100; None without either.
        reason: Why there is no score.
        chosen: Whether it is the method's best.
    """

    method: str
    settings: Mapping[str, float] = field(default_factory=dict)
    score: float | None = None
    kept: float | None = None
    hars: float | None = None
    reason: str = ""
    chosen: bool = False

    @property
    def rate(self) -> float:
        """Its learning rate."""
        return self.settings[FIELD]

    def over(self, base: Trial) -> Trial:
        """The trial with its HARS over the untouched base."""
        parts = (self.score, self.kept, base.score, base.kept)
        known = [part for part in parts if part is not None]
        return dataclasses.replace(self, hars=hars(*known)) if len(known) == len(parts) else self

    @property
    def shown(self) -> str:
        """Its settings in words."""
        return ", ".join(f"{name} {value:g}" for name, value in self.settings.items())


def parse_rates(text: str | None) -> tuple[float, ...]:
    """Learning rates by comma; the usual ones for None.

    Raises:
        UserError: One of them is no positive number.
    """
    if text is None:
        return RATES
    try:
        rates = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(
            "these are no learning rates", location=f"--rates {text}", hint="write --rates 1e-3,3e-3"
        ) from error
    if not all(0 < rate < float("inf") for rate in rates):
        raise UserError(
            "a learning rate is a positive number", location=f"--rates {text}", hint="write --rates 1e-3,3e-3"
        )
    return tuple(sorted(set(rates)))


def best_of(trials: Iterable[Trial]) -> Trial | None:
    """The trial with the highest HARS; where none has one, with the highest K.A; of equal ones the slowest.

    By K.A alone no method would protect anything, and by the mean of K.A and what is kept none would learn.
    """

    def merit(trial: Trial) -> tuple[float, float, float]:
        return -1.0 if trial.hars is None else trial.hars, trial.score or 0.0, -trial.rate

    return max((trial for trial in trials if trial.score is not None), key=merit, default=None)


def near(rates: Sequence[float], best: float | None) -> tuple[float, float]:
    """Two more rates: on both sides of the best; at an edge one beyond it; below all where none was good.

    Args:
        rates: Those that were tried, ascending.
        best: The best of them, or None.
    """
    step = rates[1] / rates[0] if len(rates) > 1 else 3.0
    if best is None:
        return _round(rates[0] / step), _round(rates[0] / step**2)
    place = rates.index(best)
    below = math.sqrt(rates[place - 1] * best) if place > 0 else best / step
    above = math.sqrt(best * rates[place + 1]) if place + 1 < len(rates) else best * step
    return _round(below), _round(above)


def edges(trials: Sequence[Trial]) -> list[str]:
    """A warning for each chosen setting that is the least or the largest of what was tried."""
    found = []
    for trial in (one for one in trials if one.chosen):
        own = [one for one in trials if one.method == trial.method]
        for name, value in trial.settings.items():
            tried = {one.settings[name] for one in own if name in one.settings}
            if len(tried) > 1 and value in (min(tried), max(tried)):
                found.append(f"{trial.method}: the best {name} is at the edge of what was tried")
    return found


def fragment(trials: Sequence[Trial], heading: str) -> str:
    """A part of a preset: the chosen settings, below a comment with all that was tried."""
    lines = [*heading.splitlines(), "method, settings: K.A on the tuning slice, old lessons kept, HARS"]
    for trial in trials:
        score = trial.reason if trial.score is None else f"{trial.score:.2f}"
        more = "".join(f", {value:.2f}" for value in (trial.kept, trial.hars) if value is not None)
        told = f" {trial.shown}" if trial.settings else ""
        lines.append(f"  {trial.method}{told}: {score}{more}{' chosen' if trial.chosen else ''}")
    lines += edges(trials)
    chosen = {trial.method: dict(trial.settings) for trial in trials if trial.chosen}
    return "".join(f"# {line}\n" for line in lines) + str(yaml.safe_dump({"methods": chosen}, sort_keys=False))


def mark(trials: Sequence[Trial], best: Trial | None) -> list[Trial]:
    """The trials with the best of them chosen."""
    return [dataclasses.replace(trial, chosen=trial is best) for trial in trials]


def _round(rate: float) -> float:
    """Two digits: a rate is no measurement."""
    return float(f"{rate:.2g}")
