"""Atomic writes: a reader sees a file's old content or the new, never a part (invariant I1)."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError

PARTIAL = ".part"
"""Suffix of temporary files; those of a killed process may be deleted."""
_FULL = "free some space and run the command again; it continues from here"
_PERMISSIONS = ("the folder may not be written", "change its permissions, or give another with --out")
_NOT_A_FOLDER = ("there is a file where a folder is needed", "give another folder with --out")
ADVICE = {
    errno.ENOSPC: ("the disk is full", _FULL),
    errno.EDQUOT: ("the disk quota is used up", _FULL),
    errno.EROFS: ("the folder is read-only", "give another folder with --out"),
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.ENOTDIR: _NOT_A_FOLDER,
    errno.EEXIST: _NOT_A_FOLDER,
}
"""Message and hint by error number."""


class StorageError(UserError):
    """A file cannot be written; everything that was stored before is intact."""


def atomic_write(path: Path, content: bytes | str, *, flush: bool = True) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Args:
        path: The file.
        content: All of it; half a surrogate pair in a text, which UTF-8 cannot hold, is written as an escape.
        flush: Whether it must survive a power cut; not needed for what is cheap to redo and checked before use.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with atomic_replace(path, flush=flush) as temporary:
        temporary.write_bytes(data)


@contextmanager
def atomic_replace(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the same folder; when the block succeeds, flush that file and rename it to ``path``.

    Raises:
        StorageError: The disk is full, or the folder cannot be written; ``path`` is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if flush:
                _fsync(temporary)
            temporary.replace(path)
            if flush:
                _fsync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path``; when the block succeeds, flush what is in it and rename it to ``path``.

    Args:
        path: The folder; it must not exist or be empty.

    Raises:
        StorageError: The disk is full, or the folder cannot be written; ``path`` is unchanged.
    """
    path = path.resolve()  # "." has no name
    temporary = path.with_name(f".{path.name}.partial")
    with translate_os_errors(path):
        shutil.rmtree(temporary, ignore_errors=True)  # of a killed process
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for entry in (*temporary.rglob("*"), temporary):
                _fsync(entry)
            if path.exists():
                path.rmdir()
            temporary.replace(path)
            _fsync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_partials(folder: Path) -> None:
    """Delete the unfinished files of killed processes below a folder. Call it only while holding its lock."""
    for path in folder.rglob(f".*{PARTIAL}"):
        with translate_os_errors(path):
            path.unlink(missing_ok=True)


@contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` of the block into a ``StorageError`` that says what to do."""
    try:
        yield
    except OSError as error:
        message, hint = ADVICE.get(error.errno or 0, (f"cannot be written ({error})", "check the disk and run again"))
        raise StorageError(message, location=str(path), hint=hint) from error


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Lock a folder that a command writes, so that two commands do not write into it at once. A kill releases the lock.

    Raises:
        UserError: Another command has locked it, or it cannot be written.
    """
    from filelock import FileLock, Timeout

    with translate_os_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        lock: Any = FileLock(out / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise UserError(
                "another command is running in this folder",
                location=str(out),
                hint="wait for it, or give another folder with --out",
            ) from error
    try:
        yield
    finally:
        lock.release()


def _fsync(path: Path) -> None:
    """Flush a file, or a folder's listing, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
