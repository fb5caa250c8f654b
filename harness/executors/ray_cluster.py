"""The cells of a run on a Ray cluster: the one at RAY_ADDRESS or, if it is not set, one on this machine alone.

All nodes must see the run's folder, the model and the data under the same paths, and have this package installed. A
cell whose worker or node dies is computed on another and continues from its last checkpoint.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError, first_line
from harness.console import configure_logging
from harness.executors.job import MAX_ATTEMPTS, JobResult, open_run, run_job
from harness.experiment.context import RunContext

logger = logging.getLogger(__name__)


def run_on_ray(context: RunContext, numbers: Sequence[int], count: int | None) -> list[JobResult]:
    """Compute the cells with these numbers, at most ``count`` at once; in the order in which they end.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be reached.
    """
    ray = _connect()
    gpus = int(context.cache_inputs.device == "cuda")
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=MAX_ATTEMPTS - 1, max_calls=0)(_run_task)
    folder, plugins = str(context.request.out.resolve()), [str(path.resolve()) for path in context.request.plugins]
    waiting, results = list(numbers), list[JobResult]()
    running: dict[Any, int] = {}
    try:
        while waiting or running:
            while waiting and (count is None or len(running) < count):
                number = waiting.pop(0)
                running[task.remote(folder, plugins, number)] = number
            (ended,), _ = ray.wait(list(running))
            results.append(_result(context, running.pop(ended), ended, ray))
    finally:
        ray.shutdown()
    return results


def _connect() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "Ray is not installed", location="--executor ray", hint="pip install 'knowledge-injection-harness[ray]'"
        ) from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # by default Ray reports its use to its makers
    address = os.environ.get("RAY_ADDRESS")
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=None if address else False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"the Ray cluster cannot be reached ({error})",
            location=f"RAY_ADDRESS={address}",
            hint="start it with `ray start --head`, or unset RAY_ADDRESS to use only this machine",
        ) from error
    return ray


def _result(context: RunContext, number: int, ended: Any, ray: Any) -> JobResult:
    """Log what a worker has logged, and return its result."""
    try:
        message = json.loads(ray.get(ended))
    except ray.exceptions.RayError as error:  # one cell must not stop the others
        cause = first_line(getattr(error, "cause", None) or error)  # Ray's own first line only says where it happened
        reason = f"{MAX_ATTEMPTS} workers ended over it, or none could start ({cause})"
        logger.warning("%s: failed: %s", context.cells[number].title, reason)
        return JobResult(number, "failed", reason)
    for level, line in message["log"]:
        logger.log(level, line)
    return JobResult(**message["done"])


def _run_task(folder: str, plugins: list[str], number: int) -> str:
    """Compute a cell on a worker. Arguments and result are plain text, so Ray pickles no objects of ours."""
    context, lines = _opened(folder, tuple(plugins))
    result = run_job(context, number)
    log = lines.copy()
    lines.clear()
    return json.dumps({"log": log, "done": asdict(result)})


@cache
def _opened(folder: str, plugins: tuple[str, ...]) -> tuple[RunContext, list[tuple[int, str]]]:
    """The run, opened once in each worker process, and the list that collects its log."""
    lines: list[tuple[int, str]] = []
    configure_logging(lambda level, line: lines.append((level, line)))
    return open_run(Path(folder), [Path(path) for path in plugins]), lines
