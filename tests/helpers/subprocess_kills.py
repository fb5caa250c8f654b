"""Run ``compare`` again and again, killed each time between two writes, until one run gets to the end.

Each run is a forked process that sends itself SIGKILL just before its n-th change on the disk, so that the interpreter
starts only once and every gap between two writes can be hit. Prints one JSON line: how many runs were killed, how many
changes an undisturbed run makes, and the exit codes.

    python subprocess_kills.py PRESET METHODS OUT SEED KILLS
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
"""Imported before the first fork, since that takes seconds."""
CHANGES = ("fsync", "replace", "unlink", "rename", "mkdir")


class KillSwitch:
    """Counts changes on the disk and kills the process before one of them."""

    def __init__(self, last: int | None) -> None:
        self.last, self.count = last, 0

    def count_change(self) -> None:
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
                self.count_change()
            return opened(file, mode, *args, **kwargs)

        builtins.open = counting

    def _wrap(self, owner, name: str) -> None:
        inner = getattr(owner, name)

        def outer(*args, **kwargs):
            self.count_change()
            return inner(*args, **kwargs)

        setattr(owner, name, outer)


def run_once(preset: str, methods: str, out: Path, last: int | None, pipe: int) -> None:
    """Make one run in this process, and exit."""
    switch = KillSwitch(last)
    switch.watch()
    result = compare(Request(tuple(methods.split(",")), resolve(preset), out))
    os.write(pipe, json.dumps([result.exit_code, switch.count]).encode())
    os._exit(0)


def run_forked(preset: str, methods: str, out: Path, last: int | None) -> tuple[int, int] | None:
    """(exit code, changes on the disk) of a run, or None if it was killed."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        try:
            run_once(preset, methods, out, last, write_end)
        finally:
            os._exit(3)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        reply = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None
    if not reply:
        raise SystemExit("a run ended by an error")
    code, count = json.loads(reply)
    return code, count


def main() -> None:
    preset, methods, out, seed, kills = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
    torch.set_num_threads(1)
    for name in HEAVY:
        importlib.import_module(name)
    whole = run_forked(preset, methods, out / "whole", None)
    if whole is None:
        raise SystemExit("the undisturbed run was killed")
    draw, kill_count, killed = random.Random(seed), 0, out / "killed"
    while kill_count < kills:
        # Later runs have less to do, so they are killed earlier; one that is not killed ends the test too soon.
        last = draw.randint(1, max(2, 2 * whole[1] // (kills + 2)))
        if run_forked(preset, methods, killed, last) is None:
            kill_count += 1
        else:
            break
    end = run_forked(preset, methods, killed, None)
    print(json.dumps({"killed": kill_count, "changes": whole[1], "codes": [whole[0], end[0] if end else None]}))


if __name__ == "__main__":
    main()
