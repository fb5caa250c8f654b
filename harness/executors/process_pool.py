"""Several processes on this machine, each with a model of its own, take the cells of a run in turn.

A process that dies, by the system's out-of-memory killer for one, is started again and goes on with its cell from the
last checkpoint; a cell that kills three becomes a failed row.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import IO, cast

from harness.executors.job import JobResult
from harness.experiment.context import RunContext

MAX_ATTEMPTS = 3
"""Processes that one cell may cost."""
LOG_TAIL = 300
"""Characters of a dead process's log that its row shows."""


def run_in_processes(context: RunContext, numbers: Sequence[int], count: int) -> list[JobResult]:
    """Compute the cells with these numbers, at most ``count`` at once; in the order in which they end."""
    waiting: SimpleQueue[int] = SimpleQueue()
    for number in numbers:
        waiting.put(number)
    hands = [_WorkerProcess(context, place, count) for place in range(min(count, len(numbers)))]
    try:
        with ThreadPoolExecutor(len(hands)) as pool:
            return [done for each in pool.map(lambda hand: list(hand.work(waiting)), hands) for done in each]
    finally:
        for hand in hands:
            hand.stop()


class _WorkerProcess:
    """One worker process and the thread that feeds it."""

    def __init__(self, context: RunContext, place: int, count: int) -> None:
        self._workshop, self._place, self._count = context, place, count
        self._log = context.store.scratch("workers") / f"{place}.log"
        self._process: subprocess.Popen[str] | None = None

    def work(self, waiting: SimpleQueue[int]) -> Iterator[JobResult]:
        """Take cells until none is left."""
        while True:
            try:
                number = waiting.get_nowait()
            except Empty:
                return
            yield self._compute(number)

    def stop(self) -> None:
        """Let go of the process; it ends by itself when nobody listens, whatever it is doing."""
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def _compute(self, number: int) -> JobResult:
        title = self._workshop.cells[number].title
        for life in range(1, MAX_ATTEMPTS + 1):
            done = self._once(number)
            if done is not None:
                return done
            how = self._end()
            if life < MAX_ATTEMPTS:
                self._workshop.say(f"{title}: its process ended ({how}); another goes on with it")
        return JobResult(number, "failed", f"{MAX_ATTEMPTS} processes ended over it; the last: {how}")

    def _once(self, number: int) -> JobResult | None:
        """Send for one cell; None where the process ends before it is done."""
        if self._process is None:
            self._process = self._start()
        to, back = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
        try:
            to.write(f"{number}\n")
            to.flush()
        except BrokenPipeError:
            return None
        for line in back:
            told = json.loads(line)
            if "done" in told:
                return JobResult(**told["done"])
            self._workshop.say(told["say"])
        return None

    def _start(self) -> subprocess.Popen[str]:
        request = self._workshop.request
        plugins = [part for path in request.plugins for part in ("--plugin", str(path))]
        with self._log.open("w") as log:
            return subprocess.Popen(  # noqa: S603 - this interpreter and this package
                [sys.executable, "-m", "harness", "worker", str(request.out), *plugins],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                env=os.environ | self._share(),
                start_new_session=True,  # Ctrl-C is for the one who started it
            )

    def _share(self) -> dict[str, str]:
        """The part of the machine that this process may use, as environment variables."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        share = {"OMP_NUM_THREADS": str(max(1, cores // self._count))}
        if self._workshop.cache_inputs.device == "cuda":
            share["CUDA_VISIBLE_DEVICES"] = _accelerators()[self._place % len(_accelerators())]
        return share

    def _end(self) -> str:
        """Say how the process ended, and forget it."""
        code = self._process.wait() if self._process else 0
        self._process = None
        end = f"signal {-code}" if code < 0 else f"status {code}"
        log = self._log.read_text("utf-8", "replace").strip()
        return f"{end}: {log[-LOG_TAIL:].splitlines()[-1]}" if log else end


def _accelerators() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]
