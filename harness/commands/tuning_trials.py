"""The trials of ``tune``: which settings to try, which were best, and how they are written as a part of a preset."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import yaml

from benchmarks.aggregate import hars
from benchmarks.errors import UserError

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""Two for each decade over two decades: a rate that is slow for one method ruins another."""
RATE = "learning_rate"
EXTRA = 2
"""Trials after those of the rates: of the method's coefficient or, where it has none, of rates near the best."""


@dataclass(frozen=True)
class Trial:
    """One method with some settings.

    Args:
        method: Method and variant, or the name of the untouched base.
        settings: The settings that were tried; empty for the base.
        score: K.A on the tuning slice, on 0-100; None where the training failed.
        kept: Share of the tokens of held-out replay samples that it still predicts, on 0-100; None without
            such samples.
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
        return self.settings[RATE]

    def over(self, base: Trial) -> Trial:
        """Return the trial with its HARS over the untouched base."""
        values = [value for value in (self.score, self.kept, base.score, base.kept) if value is not None]
        return dataclasses.replace(self, hars=hars(*values)) if len(values) == 4 else self

    @property
    def description(self) -> str:
        """Its settings in words."""
        return ", ".join(f"{name} {value:g}" for name, value in self.settings.items())


def parse_rates(text: str | None) -> tuple[float, ...]:
    """Parse learning rates by comma; None means the default ones.

    Raises:
        UserError: One of them is not a positive number.
    """
    if text is None:
        return RATES
    try:
        rates = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(
            "these are not learning rates", location=f"--rates {text}", hint="write --rates 1e-3,3e-3"
        ) from error
    if not all(0 < rate < float("inf") for rate in rates):
        raise UserError(
            "a learning rate is a positive number", location=f"--rates {text}", hint="write --rates 1e-3,3e-3"
        )
    return tuple(sorted(set(rates)))


def best_of(trials: Iterable[Trial]) -> Trial | None:
    """The trial with the highest HARS; where none has one, with the highest K.A; of equal ones the lowest rate.

    By K.A alone no method would protect anything, and by the mean of K.A and retention none would learn.
    """

    def rank(trial: Trial) -> tuple[float, float, float]:
        return -1.0 if trial.hars is None else trial.hars, trial.score or 0.0, -trial.rate

    return max((trial for trial in trials if trial.score is not None), key=rank, default=None)


def rates_near(rates: Sequence[float], best: float | None) -> tuple[float, float]:
    """Two more rates: one on each side of the best, beyond the edge if it is there; below all if none was good.

    Args:
        rates: The rates that were tried, ascending.
        best: The best of them, or None.
    """
    step = rates[1] / rates[0] if len(rates) > 1 else 3.0
    if best is None:
        return _round(rates[0] / step), _round(rates[0] / step**2)
    index = rates.index(best)
    below = math.sqrt(rates[index - 1] * best) if index > 0 else best / step
    above = math.sqrt(best * rates[index + 1]) if index + 1 < len(rates) else best * step
    return _round(below), _round(above)


def edge_warnings(trials: Sequence[Trial]) -> list[str]:
    """A warning for each chosen setting that is the lowest or highest of those that were tried."""
    warnings = []
    for best in (trial for trial in trials if trial.chosen):
        for name, value in best.settings.items():
            tried = {trial.settings.get(name, value) for trial in trials if trial.method == best.method}
            if len(tried) > 1 and value in (min(tried), max(tried)):
                warnings.append(f"{best.method}: the best {name} is at the edge of what was tried")
    return warnings


def preset_fragment(trials: Sequence[Trial], heading: str) -> str:
    """Write a part of a preset: the chosen settings, below a comment with all that was tried."""
    lines = [*heading.splitlines(), "method, settings: K.A on the tuning slice, replay pool kept, HARS"]
    for trial in trials:
        score = trial.reason if trial.score is None else f"{trial.score:.2f}"
        more = "".join(f", {value:.2f}" for value in (trial.kept, trial.hars) if value is not None)
        name = f"{trial.method} {trial.description}" if trial.settings else trial.method
        lines.append(f"  {name}: {score}{more}{' chosen' if trial.chosen else ''}")
    lines += edge_warnings(trials)
    chosen = {trial.method: dict(trial.settings) for trial in trials if trial.chosen}
    return "".join(f"# {line}\n" for line in lines) + str(yaml.safe_dump({"methods": chosen}, sort_keys=False))


def mark_best(trials: Sequence[Trial], best: Trial | None) -> list[Trial]:
    """Return the trials with the best of them chosen."""
    return [dataclasses.replace(trial, chosen=trial is best) for trial in trials]


def _round(rate: float) -> float:
    """Two digits are precise enough for a rate."""
    return float(f"{rate:.2g}")
