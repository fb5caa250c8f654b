"""The cells of a run on a Ray cluster: the one that RAY_ADDRESS names or, without it, one on this machine alone.

All nodes must see the run's folder, the model and the data under the same paths, and have this package installed. A
cell whose worker or node dies is computed elsewhere and goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError
from harness.executors.job import JobResult, open_run, run_job
from harness.experiment.context import RunContext

LIVES = 3
"""Workers that one cell may cost."""


def run_on_ray(context: RunContext, numbers: Sequence[int], count: int | None) -> list[JobResult]:
    """Compute the cells with these numbers, at most ``count`` at once; in the order in which they end.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be reached.
    """
    ray = _connected()
    task = ray.remote(
        num_cpus=1, num_gpus=int(context.cache_inputs.device == "cuda"), max_retries=LIVES - 1, max_calls=0
    )(_errand)
    folder, plugins = str(context.request.out.resolve()), [str(path.resolve()) for path in context.request.plugins]
    waiting, found = list(numbers), list[JobResult]()
    running: dict[Any, int] = {}
    try:
        while waiting or running:
            while waiting and (count is None or len(running) < count):
                number = waiting.pop(0)
                running[task.remote(folder, plugins, number)] = number
            (ended,), _ = ray.wait(list(running))
            found.append(_done(context, running.pop(ended), ended, ray))
    finally:
        ray.shutdown()
    return found


def _connected() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "Ray is not installed", location="--executor ray", hint="pip install 'knowledge-injection-harness[ray]'"
        ) from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    address = os.environ.get("RAY_ADDRESS")
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=None if address else False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"the Ray cluster cannot be reached ({error})",
            location=f"RAY_ADDRESS={address}",
            hint="start it with `ray start --head`, or unset RAY_ADDRESS to use this machine alone",
        ) from error
    return ray


def _done(context: RunContext, number: int, ended: Any, ray: Any) -> JobResult:
    """What a worker said, once it has ended."""
    title = context.cells[number].title
    try:
        told = json.loads(ray.get(ended))
    except ray.exceptions.RayError as error:  # a cell must not take the others with it
        reason = f"{LIVES} workers ended over it, or none could begin ({str(error).splitlines()[0]})"
        context.say(f"{title}: failed: {reason}")
        return JobResult(number, "failed", reason)
    for line in told["said"]:
        context.say(line)
    return JobResult(**told["done"])


def _errand(folder: str, plugins: list[str], number: int) -> str:
    """What runs on a worker. Plain text comes and goes, so that nothing depends on how Ray packs objects."""
    context, said = _opened(folder, tuple(plugins))
    said.clear()
    done = run_job(context, number)
    return json.dumps({"said": said, "done": asdict(done)})


@cache
def _opened(folder: str, plugins: tuple[str, ...]) -> tuple[RunContext, list[str]]:
    """The run, opened once in a worker's life, and what it says."""
    said: list[str] = []
    return open_run(Path(folder), [Path(path) for path in plugins], said.append), said
