"""Several processes on this machine, each with its own model, take the cells of a run in turn.

If a process dies, for example because the system's out-of-memory killer ended it, another takes its place and continues
its cell from the last checkpoint.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import IO, cast

from harness.executors.job import MAX_ATTEMPTS, JobResult
from harness.experiment.context import RunContext

logger = logging.getLogger(__name__)

LOG_TAIL = 300
"""Characters from the end of a dead process's log, whose last line is shown."""


def run_in_processes(context: RunContext, numbers: Sequence[int], count: int) -> list[JobResult]:
    """Compute the cells with these numbers, at most ``count`` at once."""
    queue: SimpleQueue[int] = SimpleQueue()
    for number in numbers:
        queue.put(number)
    workers = [_WorkerProcess(context, index, count) for index in range(min(count, len(numbers)))]
    try:
        with ThreadPoolExecutor(len(workers)) as threads:
            results = threads.map(lambda worker: list(worker.work(queue)), workers)
            try:
                return [result for of_worker in results for result in of_worker]
            except BaseException:  # the block would wait for all cells
                for worker in workers:
                    worker.interrupt()
                raise
    finally:
        for worker in workers:
            worker.stop()


class _WorkerProcess:
    """One worker process and the thread that feeds it."""

    def __init__(self, context: RunContext, index: int, count: int) -> None:
        self._context, self._index, self._count = context, index, count
        self._log = context.store.scratch("workers") / f"{index}.log"
        self._process: subprocess.Popen[str] | None = None
        self._interrupted = False

    def work(self, queue: SimpleQueue[int]) -> Iterator[JobResult]:
        """Compute cells until the queue is empty."""
        while not self._interrupted:
            try:
                number = queue.get_nowait()
            except Empty:
                return
            yield self._compute(number)

    def interrupt(self) -> None:
        """Kill the process, whose work so far is stored, and begin no other."""
        self._interrupted = True
        if self._process is not None:
            self._process.kill()

    def stop(self) -> None:
        """Close the process's input, which ends it, whatever it is doing."""
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def _compute(self, number: int) -> JobResult:
        title = self._context.cells[number].title
        for attempt in range(1, MAX_ATTEMPTS + 1):
            result = self._try(number)
            if result is not None:
                return result
            end = self._end()
            if self._interrupted:
                break
            if attempt < MAX_ATTEMPTS:
                logger.warning("%s: its process ended (%s); another continues with it", title, end)
        return JobResult(number, "failed", f"{MAX_ATTEMPTS} processes ended over it; the last: {end}")

    def _try(self, number: int) -> JobResult | None:
        """Have the process compute a cell; returns None if it ends before."""
        if self._process is None:
            self._process = self._start()
        if self._interrupted:
            self._process.kill()
        stdin, stdout = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)
        try:
            stdin.write(f"{number}\n")
            stdin.flush()
        except BrokenPipeError:
            return None
        for line in stdout:
            message = json.loads(line)
            if "done" in message:
                return JobResult(**message["done"])
            if "refused" in message:
                self.stop()
                logger.warning("%s: failed: %s", self._context.cells[number].title, message["refused"])
                return JobResult(number, "failed", message["refused"])
            logger.log(*message["log"])
        return None

    def _start(self) -> subprocess.Popen[str]:
        request = self._context.request
        plugins = [argument for path in request.plugins for argument in ("--plugin", str(path))]
        with self._log.open("w") as log:
            return subprocess.Popen(  # noqa: S603 - this interpreter and this package
                [sys.executable, "-m", "harness", "worker", str(request.out), *plugins],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                env=os.environ | self._share(),
                start_new_session=True,  # Ctrl-C is for the main process only
            )

    def _share(self) -> dict[str, str]:
        """The part of the machine that this process may use, as environment variables."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        share = {"OMP_NUM_THREADS": str(max(1, cores // self._count))}
        if self._context.cache_inputs.device == "cuda":
            share["CUDA_VISIBLE_DEVICES"] = _accelerators()[self._index % len(_accelerators())]
        return share

    def _end(self) -> str:
        """Forget the process, and return how it ended."""
        code = self._process.wait() if self._process else 0
        self._process = None
        end = f"signal {-code}" if code < 0 else f"status {code}"
        log = self._log.read_text("utf-8", "replace").strip()
        return f"{end}: {log[-LOG_TAIL:].splitlines()[-1]}" if log else end


def _accelerators() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
