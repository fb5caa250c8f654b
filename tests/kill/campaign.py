"""Kill commands again and again, start them again, and compare what they leave with that of an undisturbed command."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.kill.attempts import Attempt, Attempts, Undisturbed, environment
from tests.kill.differences import damaged_entries, differences
from tests.kill.faults import Fault
from tests.kill.scenarios import Scenario

KINDS = ("SIGKILL", "SIGTERM", "full", "torn")
"""What happens to a command, in turn."""
MOST_KILLS = 6
"""Kills in one round."""


@dataclass
class Counts:
    """What a campaign has done to one scenario, and what it has found."""

    rounds: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    """By kind."""
    resumes: int = 0
    damaged: int = 0
    """Stored entries that were found damaged and made again."""
    findings: list[str] = field(default_factory=list)
    """Ends of a command that should not be."""
    different: list[str] = field(default_factory=list)
    """Files that differ."""


class Campaign:
    """The rounds of all scenarios.

    Args:
        folder: For what the commands write. A round's folder is deleted if nothing was found in it.
        draw: Decides moments and victims.
        kinds: What happens, in turn.
        show: Takes a line about each kill.
    """

    def __init__(self, folder: Path, draw: random.Random, kinds: Sequence[str], show: Callable[[str], None]) -> None:
        self._folder, self._draw, self._kinds, self._show = folder, draw, kinds, show
        self._whole: dict[str, Undisturbed] = {}
        self._starts = 0
        self.counts: dict[str, Counts] = {}

    @property
    def kills(self) -> int:
        """Number of kills so far."""
        return sum(counts.kills.total() for counts in self.counts.values())

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not any(counts.findings or counts.different for counts in self.counts.values())

    def run_round(self, scenario: Scenario, limit: int) -> None:
        """Start a scenario, disturb it at most ``limit`` times, let it come to its end, and compare."""
        whole, counts = self._undisturbed(scenario), self.counts.setdefault(scenario.name, Counts())
        counts.rounds += 1
        out = self._folder / scenario.name / f"round-{counts.rounds}"
        starts, complete = min(limit, self._draw.randint(1, MOST_KILLS)), False
        attempts = Attempts(scenario, whole, out, min(1.0, 2 / (starts + 1)), self._draw)
        before = len(counts.findings)
        for number in range(starts):
            kind = self._kinds[self._starts % len(self._kinds)]
            self._starts += 1
            attempt = attempts.disturb(kind)
            counts.kills[kind] += attempt.struck
            counts.resumes += number > 0
            self._note(scenario, counts, kind, attempt)
            if complete := attempt.complete:
                break
        if not complete:
            counts.resumes += 1
            self._note(scenario, counts, "", attempts.finish())
        counts.damaged += damaged_entries(out)
        different = differences(whole.out, out)
        counts.different += [f"{out.name}: {each}" for each in different]
        if not different and len(counts.findings) == before:
            shutil.rmtree(out)
            attempts.log.unlink()

    def _undisturbed(self, scenario: Scenario) -> Undisturbed:
        """The scenario without a fault; it is run once."""
        if scenario.name not in self._whole:
            out = self._folder / scenario.name / "whole"
            out.parent.mkdir(parents=True, exist_ok=True)
            fault, log = Fault("count", str(out), str(out.with_suffix(".changes"))), out.with_suffix(".log")
            started = time.monotonic()
            running = scenario.start(out, log, environment(fault))
            if not running.wait() or running.code:
                raise SystemExit(f"undisturbed, {scenario.name} ended with {running.code}; see {log}")
            seconds, changes = time.monotonic() - started, Path(fault.mark).read_text().splitlines()
            self._whole[scenario.name] = Undisturbed(out, seconds, changes)
            self._show(f"{scenario.name}: undisturbed {seconds:.1f} s, {len(changes)} changes on the disk")
        return self._whole[scenario.name]

    def _note(self, scenario: Scenario, counts: Counts, kind: str, attempt: Attempt) -> None:
        """Show a kill, and keep what should not be."""
        round_ = f"{scenario.name}, round {counts.rounds}"
        if attempt.struck:
            end = "went on to its end" if attempt.complete else "ended"
            self._show(f"{self.kills:>5} {round_}: {kind} {attempt.moment}; it {end}")
        if attempt.finding:
            counts.findings.append(
                f"round-{counts.rounds}: {kind or 'undisturbed'} {attempt.moment}: {attempt.finding}"
            )
            self._show(f"      FOUND {counts.findings[-1]}")
