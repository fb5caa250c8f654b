"""One fault inside the processes of a command, at a chosen change on the disk.

The environment variable ``KILL_FAULT`` describes it as JSON; ``sitecustomize/`` installs it in every Python process
that the command starts. Changes are counted in each process. The first process that reaches the chosen one leaves a
mark, so that a fault happens once; a full disk is full for all processes.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import re
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VARIABLE = "KILL_FAULT"
REFUSED_WHEN_FULL = ("open", "fsync", "mkdir")


@dataclass(frozen=True)
class Fault:
    """What happens, and at which change.

    Args:
        kind: ``SIGKILL`` or ``SIGTERM`` before the change; ``full``: the disk is full from then on; ``torn``: the file
            is cut once it is in place, then SIGKILL; ``unnoticed``: a bit of an adapter changes before its digest is
            taken, which nothing can find; ``count``: nothing.
        folder: Only changes below it count.
        mark: A file that the process creates in which the fault happens; with ``count``, a list of all changes.
        pattern: Only changes of paths in which this is found count.
        at: The number of the change, from 1.
        share: The share of a torn file that is left.
    """

    kind: str
    folder: str
    mark: str
    pattern: str = ""
    at: int = 1
    share: float = 0.5

    def environment(self) -> dict[str, str]:
        """The variable that describes it."""
        return {VARIABLE: json.dumps(asdict(self))}


def install() -> None:
    """Watch the changes of this process if a fault is described in the environment."""
    if described := os.environ.get(VARIABLE):
        _Watch(Fault(**json.loads(described))).start()


class _Watch:
    """Counts the changes of this process."""

    def __init__(self, fault: Fault) -> None:
        self._fault, self._pattern = fault, re.compile(fault.pattern)
        self._count, self._full, self._flushed = 0, False, set[int]()

    def start(self) -> None:
        """Replace the functions that change files by such that count."""
        for name in ("replace", "rename"):
            self._wrap(os, name, lambda args: args[1])
        for name in ("unlink", "mkdir"):
            self._wrap(os, name, lambda args: args[0])
        self._wrap(os, "fsync", lambda args: Path(f"/proc/self/fd/{args[0]}").readlink())
        inner = io.open

        def counting(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if set(mode) & set("wax+"):
                self._before("open", file)
            return inner(file, mode, *args, **kwargs)

        io.open = builtins.open = counting

    def _wrap(self, owner: Any, name: str, path_of: Callable[[tuple[Any, ...]], Any]) -> None:
        inner = getattr(owner, name)

        def outer(*args: Any, **kwargs: Any) -> Any:
            path = path_of(args)
            due = self._before(name, path)
            result = inner(*args, **kwargs)
            if name == "fsync":
                self._flushed.add(os.fstat(args[0]).st_ino)
            if due:
                self._tear(name, Path(os.fsdecode(path)))
            return result

        setattr(owner, name, outer)

    def _before(self, name: str, file: Any) -> bool:
        """Have the fault happen if this is the change; returns whether the file is to be torn after it."""
        fault = self._fault
        path = os.path.abspath(os.fsdecode(file)) if isinstance(file, (str, bytes, os.PathLike)) else ""  # noqa: PTH100
        if not path.startswith(fault.folder):
            return False
        if self._pattern.search(path):
            self._count += 1
        if fault.kind == "count":
            _append(fault.mark, path)
        elif fault.kind == "full":
            self._fill(name, path)
        elif self._count >= fault.at:
            return self._strike(name, path)
        return False

    def _strike(self, name: str, path: str) -> bool:
        kind = self._fault.kind
        if kind == "torn":
            in_place = name in ("replace", "rename") or (name == "fsync" and path.endswith(".log"))
            return in_place and _claim(self._fault.mark)
        if kind == "unnoticed":
            if name == "unlink" and (written := _partial_content(Path(path))) and _claim(self._fault.mark):
                content = bytearray(written.read_bytes())
                content[-1] ^= 1
                written.write_bytes(content)
        elif _claim(self._fault.mark):
            os.kill(os.getpid(), getattr(signal, kind))
        return False

    def _fill(self, name: str, path: str) -> None:
        """Refuse what needs room; the fault has happened once something was refused."""
        fault = self._fault
        self._full = self._full or self._count >= fault.at or os.path.exists(fault.mark)  # noqa: PTH110
        if self._full and name in REFUSED_WHEN_FULL:
            _claim(fault.mark)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def _tear(self, name: str, path: Path) -> None:
        """Cut what is in place now, as far as no flush has saved it: of a folder, one file that was not flushed."""
        files = [path]
        if path.is_dir():
            files = [file for file in sorted(path.rglob("*")) if file.is_file() and not self._is_flushed(file)]
        if files:
            file = files[int(self._fault.share * len(files))]
            os.truncate(file, int(file.stat().st_size * self._fault.share))
        os.kill(os.getpid(), signal.SIGKILL)

    def _is_flushed(self, file: Path) -> bool:
        return file.stat().st_ino in self._flushed


def _append(list_: str, path: str) -> None:
    descriptor = os.open(list_, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(descriptor, path.encode() + b"\n")
    os.close(descriptor)


def _claim(mark: str) -> bool:
    """Create the mark; returns whether it was not there."""
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _partial_content(manifest: Path) -> Path | None:
    """The content of an adapter that is being written, before its digest is taken."""
    if manifest.parent.name != "adapters":
        return None
    return next(iter(manifest.parent.glob(f".{manifest.stem}.safetensors.*.part")), None)
