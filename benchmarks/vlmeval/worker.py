"""The process in which VLMEvalKit runs: limited memory, time and files, no network, no child processes.

``python -m benchmarks.vlmeval.worker RESULTS`` reads a batch of jobs as JSON from standard input and writes RESULTS.
A model's text is only data here: nothing is evaluated, and the guard refuses what evaluated text could try to do.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError

FORBIDDEN = frozenset(
    {
        *("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"),
        *("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"),
        *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile"),
        *("os.fork", "os.forkpty", "os.kill", "os.killpg", "signal.pthread_kill"),
    }
)
WRITE_EVENTS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("os.mkdir", "os.rmdir", "os.remove", "os.truncate", "os.chmod", "os.chown", "os.utime"), (0,)),
    **dict.fromkeys(("os.setxattr", "os.removexattr", "sqlite3.connect"), (0,)),
    **dict.fromkeys(("os.symlink", "os.link"), (1,)),
    "os.rename": (0, 1),
}
"""Events that change a file -> the positions of the arguments that name it."""
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Guard:
    """An audit hook that refuses network, child processes and changes outside one folder.

    It stops text that was evaluated despite all precautions; it is not a sandbox against code that tries to escape.

    Args:
        folder: Where files may be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = os.path.realpath(folder)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Check one event.

        Raises:
            PermissionError: The event is forbidden.
        """
        if event in FORBIDDEN:
            raise PermissionError(f"scoring may not use {event}")
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITE_FLAGS:
            self._check_path(event, arguments[0])
        for position in WRITE_EVENTS.get(event, ()):
            self._check_path(event, arguments[position])

    def _check_path(self, event: str, name: object) -> None:
        if not isinstance(name, str | bytes | os.PathLike) or name == os.devnull:
            return  # a number is an open file, which was checked when it was opened
        path = os.path.realpath(os.fsdecode(name))
        if os.path.commonpath([path, self._folder]) != self._folder:
            raise PermissionError(f"scoring may not change {path} ({event})")


def limit(limits: dict[str, int]) -> None:
    """Limit memory and file size (bytes) and processor time (seconds), where the system supports it."""
    try:
        import resource
    except ImportError:
        return
    kinds = {"memory": resource.RLIMIT_AS, "cpu": resource.RLIMIT_CPU, "file": resource.RLIMIT_FSIZE}
    for name, kind in kinds.items():
        _, hard = resource.getrlimit(kind)
        value = limits[name] if hard == resource.RLIM_INFINITY else min(limits[name], hard)
        resource.setrlimit(kind, (value, hard))


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Run one job; an error becomes a message, so that the other jobs still run."""
    from benchmarks.vlmeval.adapter import list_datasets  # imports VLMEvalKit: only with limits and guard in place
    from benchmarks.vlmeval.prompts import build_questions
    from benchmarks.vlmeval.score_job import score_answers

    tasks = {"questions": build_questions, "score": score_answers, "datasets": list_datasets}
    try:
        return tasks[job["task"]](job)
    except UserError as error:
        return {"message": error.message, "location": error.location, "hint": error.hint}
    except Exception as error:
        import traceback

        traceback.print_exc()
        message = f"VLMEvalKit failed on {job['name']} ({type(error).__name__}: {error})"
        return {"message": message, "location": job["tsv"], "hint": "compare the table with the benchmark's format"}


def main() -> None:
    """Read jobs, run them, write the results."""
    request = json.load(sys.stdin)
    limit(request["limits"])
    sys.addaudithook(Guard(Path(request["folder"])))
    results = [run_job(job) for job in request["jobs"]]
    Path(sys.argv[1]).write_text(json.dumps(results, ensure_ascii=True), "utf-8")


if __name__ == "__main__":
    main()
