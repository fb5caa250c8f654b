"""The process in which VLMEvalKit runs: limited in memory, time and files, without network or child processes.

``python -m benchmarks.vlmeval.worker RESULTS`` reads a batch of jobs as JSON from standard input and writes RESULTS.
Text of a model is data here: nothing is evaluated, and the guard refuses what evaluated text would want to do.
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
WRITING: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("os.mkdir", "os.rmdir", "os.remove", "os.truncate", "os.chmod", "os.chown", "os.utime"), (0,)),
    **dict.fromkeys(("os.setxattr", "os.removexattr", "sqlite3.connect"), (0,)),
    **dict.fromkeys(("os.symlink", "os.link"), (1,)),
    "os.rename": (0, 1),
}
"""Events that change a file, and which of their arguments name it."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Guard:
    """An audit hook that refuses network, child processes and changes outside one folder.

    It stops text that was evaluated after all; it is no wall against code that means to break out.

    Args:
        folder: Where files may be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = os.path.realpath(folder)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Look at one event.

        Raises:
            PermissionError: It is a forbidden one.
        """
        if event in FORBIDDEN:
            raise PermissionError(f"scoring needs no {event}")
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
            self._inside(event, arguments[0])
        for place in WRITING.get(event, ()):
            self._inside(event, arguments[place])

    def _inside(self, event: str, name: object) -> None:
        """A name that is a number is an open file, which was looked at when it was opened."""
        if not isinstance(name, str | bytes | os.PathLike) or name == os.devnull:
            return
        path = os.path.realpath(os.fsdecode(name))
        if os.path.commonpath([path, self._folder]) != self._folder:
            raise PermissionError(f"scoring may not change {path} ({event})")


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
    from benchmarks.vlmeval import prompts as vlmeval_tables
    from benchmarks.vlmeval import score_job as vlmeval_scoring

    tasks = {"questions": vlmeval_tables.questions, "score": vlmeval_scoring.score}
    try:
        return tasks[job["task"]](job)
    except UserError as error:
        return {"message": error.message, "location": error.location, "hint": error.hint}
    except Exception as error:
        import traceback

        traceback.print_exc()
        problem = f"VLMEvalKit failed on {job['name']} ({type(error).__name__}: {error})"
        return {"message": problem, "location": job["tsv"], "hint": "compare the table with the format"}


def main() -> None:
    """Read jobs, work, write results."""
    request = json.load(sys.stdin)
    limit(request["limits"])
    sys.addaudithook(Guard(Path(request["folder"])))
    results = [result_of(job) for job in request["jobs"]]
    Path(sys.argv[1]).write_text(json.dumps(results, ensure_ascii=True), "utf-8")


if __name__ == "__main__":
    main()
