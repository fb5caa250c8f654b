"""Run ``compare`` over and over, killed each time between two writes, until it lives to the end.

A life is a forked process that sends itself SIGKILL just before the n-th time it would change something on the disk, so
that few starts of the interpreter suffice and every gap between two writes can be hit. Prints one JSON line: how many
lives were lost, and how many writes an undisturbed life makes.

    python lives.py PRESET METHODS OUT SEED KILLS
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import random
import signal
import sys
from pathlib import Path

import torch

from harness.commands.compare import compare
from harness.config.settings import Request, resolve

HEAVY = (
    "peft",
    "harness.models.batched_generation",
    "harness.training.conversation_batches",
    "harness.models.llava",
    "methods.components.lora_layers",
    "reports.build",
)
"""Imported before the first fork, for it takes seconds."""
CHANGES = ("fsync", "replace", "unlink", "rename", "mkdir")


class Fate:
    """Counts changes on the disk and kills the process before one of them."""

    def __init__(self, last: int | None) -> None:
        self.last, self.count = last, 0

    def strike(self) -> None:
        self.count += 1
        if self.last is not None and self.count >= self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        for name in CHANGES:
            self._wrap(os, name)
        for name in ("replace", "unlink", "mkdir"):
            self._wrap(Path, name)
        opened = builtins.open

        def counting(file, mode="r", *args, **kwargs):
            if set(mode) & set("wax+"):
                self.strike()
            return opened(file, mode, *args, **kwargs)

        builtins.open = counting

    def _wrap(self, owner, name: str) -> None:
        inner = getattr(owner, name)

        def outer(*args, **kwargs):
            self.strike()
            return inner(*args, **kwargs)

        setattr(owner, name, outer)


def life(preset: str, methods: str, out: Path, last: int | None, tell: int) -> None:
    """One run in this process, which does not outlive it."""
    fate = Fate(last)
    fate.watch()
    outcome = compare(Request(tuple(methods.split(",")), resolve(preset), out), lambda line: None)
    os.write(tell, json.dumps([outcome.exit_code, fate.count]).encode())
    os._exit(0)


def live(preset: str, methods: str, out: Path, last: int | None) -> tuple[int, int] | None:
    """(exit code, changes on the disk) of a run, or None if it was killed."""
    hear, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hear)
        try:
            life(preset, methods, out, last, tell)
        finally:
            os._exit(3)
    os.close(tell)
    with os.fdopen(hear, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None
    if not told:
        raise SystemExit("a life ended by an error")
    code, count = json.loads(told)
    return code, count


def main() -> None:
    preset, methods, out, seed, kills = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
    torch.set_num_threads(1)
    for name in HEAVY:
        importlib.import_module(name)
    whole = live(preset, methods, out / "whole", None)
    if whole is None:
        raise SystemExit("the undisturbed run was killed")
    draw, lost, killed = random.Random(seed), 0, out / "killed"
    while lost < kills:
        # Later lives have less to do, so they are struck earlier; one that gets through ends the test too soon.
        last = draw.randint(1, max(2, 2 * whole[1] // (kills + 2)))
        if live(preset, methods, killed, last) is None:
            lost += 1
        else:
            break
    end = live(preset, methods, killed, None)
    print(json.dumps({"lost": lost, "changes": whole[1], "codes": [whole[0], end[0] if end else None]}))


if __name__ == "__main__":
    main()
