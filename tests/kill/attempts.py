"""One start of a command with one fault: at a chosen change on the disk, or after some seconds from outside."""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.paths import PYTHONPATH, TESTS
from tests.kill.faults import Fault
from tests.kill.processes import Running
from tests.kill.scenarios import Scenario

STOPPED = (130, -signal.SIGTERM)
"""Ends after SIGTERM: as Ctrl-C ends a command, or before it could take signals."""
REFUSED = 2
"""The end of a command for whose result the disk has no room, or whose result is there."""
DISK_IS_FULL, IS_THERE = "the disk is full", "something is there already"
TAIL = 400
"""Characters of a log that a finding quotes."""


@dataclass(frozen=True)
class Undisturbed:
    """A scenario that nobody disturbed: its folder, its seconds, and the path of each change on the disk."""

    out: Path
    seconds: float
    changes: Sequence[str]


@dataclass(frozen=True)
class Attempt:
    """What came of a start.

    Args:
        struck: Whether the fault happened; the command may have ended before.
        complete: Whether the command came to its end.
        moment: When the fault was to happen.
        finding: How it ended, if it may not end so.
    """

    struck: bool
    complete: bool
    moment: str = ""
    finding: str = ""


class Attempts:
    """The starts of one round.

    Args:
        scenario: What is started.
        whole: The same undisturbed.
        out: The folder of the command.
        share: The share of the undisturbed life in which each fault is to happen: what is done already is not done
            again, so a later start is shorter.
        draw: Decides moments and victims.
    """

    def __init__(self, scenario: Scenario, whole: Undisturbed, out: Path, share: float, draw: random.Random) -> None:
        self._scenario, self._whole, self._out, self._share, self._draw = scenario, whole, out, share, draw
        self.log = out.with_suffix(".log")

    def disturb(self, kind: str) -> Attempt:
        """Start the command with a fault of this kind."""
        if kind.startswith("SIG") and self._draw.random() < 0.5:
            return self._kill_in_time(signal.Signals[kind])
        pattern = self._draw.choice(["", *self._scenario.patterns])
        changes = sum(bool(re.search(pattern, path)) for path in self._whole.changes)
        at = self._draw.randint(1, max(1, int(self._share * changes)))
        if kind == "unnoticed":  # a control, which must not miss
            pattern, at = "", 1
        mark = self._out.with_suffix(".mark")
        mark.unlink(missing_ok=True)
        said, running = self._start(Fault(kind, str(self._out), str(mark), pattern, at, self._draw.random()))
        running.wait()
        return self._examine(running, kind, f"at change {at} of {pattern or 'any path'}", said, struck=mark.exists())

    def finish(self) -> Attempt:
        """Start the command, and let it come to its end."""
        said, running = self._start(None)
        running.wait()
        return self._examine(running, "", "", said, struck=False)

    def _kill_in_time(self, number: signal.Signals) -> Attempt:
        """Send a signal from outside, to one process of the command or to all of them."""
        seconds = self._draw.uniform(0, self._share * self._whole.seconds)
        said, running = self._start(None)
        struck = not running.wait(seconds)
        if struck and self._scenario.spreads and self._draw.random() < 0.5:
            running.kill_one(number, self._draw, launched=self._scenario.launched)
        elif struck:
            running.kill_all(number)
        running.wait()
        return self._examine(running, number.name, f"after {seconds:.1f} s", said, struck=struck)

    def _start(self, fault: Fault | None) -> tuple[int, Running]:
        """Start the command; returns also how long its log is before."""
        said = self.log.stat().st_size if self.log.exists() else 0
        return said, self._scenario.start(self._out, self.log, environment(fault))

    def _examine(self, running: Running, kind: str, moment: str, before: int, *, struck: bool) -> Attempt:
        """Whether the command has ended as one may that was disturbed so."""
        code, said = running.code, self.log.read_bytes()[before:].decode("utf-8", "replace")
        if code is None:
            running.stop()
            return Attempt(struck, complete=False, moment=moment, finding=f"it hung{_quote(said)}")
        complete = code == 0 or (code == REFUSED and IS_THERE in said)
        allowed = complete
        if struck and kind == "full":
            refused = code == REFUSED or (self._scenario.launched and code != 0)  # a launcher has its own code
            allowed = refused and DISK_IS_FULL in said
        elif struck and kind == "SIGTERM" and not self._scenario.spreads:
            allowed = complete or (code in STOPPED and "Traceback" not in said)
        elif struck and kind != "unnoticed":
            allowed = True
        return Attempt(struck, complete, moment, "" if allowed else f"it ended with {code}{_quote(said)}")


def environment(fault: Fault | None) -> dict[str, str]:
    """The variables of a command: a fault, where Python finds what installs it, and one thread for each process."""
    path = os.pathsep.join((str(TESTS / "kill" / "sitecustomize"), PYTHONPATH))
    return {
        "OMP_NUM_THREADS": "1",
        **({"PYTHONPATH": path} | fault.environment() if fault else {"PYTHONPATH": PYTHONPATH}),
    }


def _quote(said: str) -> str:
    """The end of what a command has said."""
    return f": ...{said.strip()[-TAIL:]}"
