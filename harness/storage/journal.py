"""Append-only logs that survive a kill."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from harness.storage.digests import Json, canonical
from harness.storage.files import atomic_write, translate_os_errors


class Journal:
    """An append-only log with one JSON value and its checksum per line.

    Args:
        path: The file; created by the first ``append``.
        quarantined: Damaged lines are appended to this list.
    """

    def __init__(self, path: Path, quarantined: list[str]) -> None:
        self.path, self._quarantined = path, quarantined

    def read(self) -> list[Json]:
        """All intact lines in order. Torn or damaged lines are removed from the file."""
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().splitlines(keepends=True)
        values = [value for line in lines if (value := _parse(line)) is not None]
        if len(values) < len(lines):
            # Only the last line can be torn by a kill; any other is damage.
            damaged = [number for number, line in enumerate(lines[:-1], 1) if _parse(line) is None]
            self._quarantined += [f"{self.path.parent.name}/{self.path.stem[:12]} line {number}" for number in damaged]
            atomic_write(self.path, b"".join(_line(value) for value in values))
        return values

    def append(self, values: Sequence[Json]) -> None:
        """Add lines and flush them to the disk.

        Raises:
            StorageError: The disk is full or the folder is read-only; the lines before are intact.
        """
        with translate_os_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(b"".join(_line(value) for value in values))
                file.flush()
                os.fsync(file.fileno())

    def discard(self) -> None:
        """Delete the log."""
        with translate_os_errors(self.path):
            self.path.unlink(missing_ok=True)


def _line(value: Json) -> bytes:
    body = canonical(value)
    return hashlib.sha256(body).hexdigest()[:16].encode() + b" " + body + b"\n"


def _parse(line: bytes) -> Json | None:
    """The value of a line, or None if it is torn or its checksum does not match."""
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or hashlib.sha256(body).hexdigest()[:16].encode() != checksum:
        return None
    return json.loads(body.decode("utf-8", "surrogatepass"))
