"""The process in which VLMEvalKit runs: limited in memory, time and file size, without network or child processes.

``python -m benchmarks.vlmeval_worker RESULTS`` reads a batch of jobs as JSON from standard input and writes RESULTS.
Text of a model is data here: nothing is evaluated, and the guard refuses what evaluated text would want to do.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError

FORBIDDEN = frozenset(
    {
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.fork",
        "os.forkpty",
        "os.kill",
    }
)


def guard(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook that refuses network and child processes.

    Raises:
        PermissionError: Always, for a forbidden event.
    """
    if event in FORBIDDEN:
        raise PermissionError(f"scoring needs no {event}")


def limit(limits: dict[str, int]) -> None:
    """Cap memory, processor time and file size (bytes and seconds); systems without such limits go without."""
    try:
        import resource
    except ImportError:
        return
    wanted = {"memory": resource.RLIMIT_AS, "cpu": resource.RLIMIT_CPU, "file": resource.RLIMIT_FSIZE}
    for name, kind in wanted.items():
        _, hard = resource.getrlimit(kind)
        value = limits[name] if hard == resource.RLIM_INFINITY else min(limits[name], hard)
        resource.setrlimit(kind, (value, hard))


def result_of(job: dict[str, Any]) -> dict[str, Any]:
    """Do one job; a fault becomes a message, and the other jobs go on."""
    from benchmarks import vlmeval_scores, vlmeval_tables

    tasks = {"questions": vlmeval_tables.questions, "score": vlmeval_scores.score}
    try:
        return tasks[job["task"]](job)
    except UserError as error:
        return {"problem": error.problem, "where": error.where, "mend": error.mend}
    except Exception as error:
        import traceback

        traceback.print_exc()
        problem = f"VLMEvalKit failed on {job['name']} ({type(error).__name__}: {error})"
        return {"problem": problem, "where": job["tsv"], "mend": "compare the table with the format"}


def main() -> None:
    """Read jobs, work, write results."""
    request = json.load(sys.stdin)
    limit(request["limits"])
    sys.addaudithook(guard)
    results = [result_of(job) for job in request["jobs"]]
    Path(sys.argv[1]).write_text(json.dumps(results, ensure_ascii=True), "utf-8")


if __name__ == "__main__":
    main()
