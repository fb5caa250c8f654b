"""Pictures in zip archives, read where they lie: nothing is unpacked, so no name in an archive can lead anywhere.

EVOKE and KORE-74K are published with their pictures in zip files, one of them cut into parts.
"""

from __future__ import annotations

import io
import os
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from benchmarks.errors import UserError

LARGEST = 128 << 20
"""Bytes of a member when unpacked; a larger one is no picture but a bomb."""
STEEPEST, SMALL = 200, 1 << 20
"""A member larger than the second may not be compressed by more than the first."""
_PART = re.compile(r"(.+?)[._-]?part[._-]?(\d+)(?:\.zip)?$|(.+\.zip)\.(\d+)$", re.IGNORECASE)
LAYOUT = ("json", "jsonl")
"""Folders in which the published data sets keep their JSON, beside ``imgs``."""


@dataclass(frozen=True)
class ZipMember:
    """A file in an archive. Satisfies ``benchmarks.records.Stored``.

    Args:
        parts: The archive's files in order; more than one where it is cut.
        name: As the archive has it.
    """

    parts: tuple[Path, ...]
    name: str

    def __str__(self) -> str:
        return f"{self.parts[0]}!{self.name}"

    def read_bytes(self) -> bytes:
        """The unpacked bytes, checked against the archive's checksum.

        Raises:
            OSError: The archive is damaged or gone.
        """
        try:
            return _opened(self.parts, _stamp(self.parts), os.getpid()).read(self.name)
        except (zipfile.BadZipFile, zlib.error, KeyError, RuntimeError, NotImplementedError) as error:
            raise OSError(0, f"the archive is damaged: {error}") from error


def find(folder: Path, name: str) -> ZipMember | None:
    """The member that a row beside these archives calls ``name``; leading folders may lack on either side.

    Raises:
        UserError: An archive is unsafe or damaged.
        ValueError: Several members fit.
    """
    wanted = _plain(name)
    for parts in archives(folder):
        index = _index(parts, _stamp(parts))
        if wanted in index:
            found = index[wanted]
            if found is None:
                raise ValueError(f"several files of {parts[0].name} are called {name!r}")
            return ZipMember(parts, found)
    return None


def root_of(folder: Path) -> Path:
    """The data set's own folder, given the one with its JSON."""
    return folder.parent.parent if folder.parts[-2:] == LAYOUT else folder


def place_of(folder: Path, file: str) -> Path:
    """A file of a data set: in its folder, or where the published data sets keep their JSON."""
    published = folder.joinpath(*LAYOUT, file)
    return published if published.is_file() and not (folder / file).is_file() else folder / file


def archives(folder: Path) -> list[tuple[Path, ...]]:
    """The archives of a data set, each with its parts in order."""
    root = root_of(folder)
    places = (root, root / "imgs")
    stamps = tuple(place.stat().st_mtime_ns for place in places if place.is_dir())
    return _listed(root, stamps)


@lru_cache(maxsize=16)
def _listed(root: Path, stamps: Sequence[int]) -> list[tuple[Path, ...]]:
    whole: list[tuple[Path, ...]] = []
    cut: dict[Path, list[tuple[int, Path]]] = {}
    for path in sorted({*root.glob("*"), *root.glob("*/*"), *root.glob("imgs/**/*")}):
        if not path.is_file():
            continue
        part = _PART.fullmatch(path.name)
        if part:
            cut.setdefault(path.with_name(part[1] or part[3]), []).append((int(part[2] or part[4]), path))
        elif path.suffix.lower() == ".zip":
            whole.append((path,))
    return whole + [tuple(path for _, path in sorted(parts)) for parts in cut.values()]


@lru_cache(maxsize=64)
def _index(parts: tuple[Path, ...], stamp: tuple[int, ...]) -> Mapping[str, str | None]:
    """Members by their name and by every end of it; None where two members share one.

    Raises:
        UserError: The archive is unsafe or damaged.
    """
    found: dict[str, str | None] = {}
    try:
        infos = _opened(parts, stamp, os.getpid()).infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f"the archive is damaged ({error})", location=str(parts[0]), hint="download it again"
        ) from error
    for info in infos:
        if info.is_dir():
            continue
        _check(info, parts[0])
        for name in _names(info):
            steps = PurePosixPath(name).parts
            for start in range(len(steps)):
                end = "/".join(steps[start:])
                found[end] = info.filename if found.get(end, info.filename) == info.filename else None
    for info in infos:  # a whole name goes before the end of another
        found |= {name: info.filename for name in _names(info) if not info.is_dir()}
    return found


def _check(info: zipfile.ZipInfo, archive: Path) -> None:
    path = PurePosixPath(info.filename)
    fault = ""
    if path.is_absolute() or ".." in path.parts or "\\" in info.filename or re.match(r"[A-Za-z]:", info.filename):
        fault = "leads out of its folder"
    elif stat.S_ISLNK(info.external_attr >> 16):
        fault = "is a link"
    elif info.flag_bits & 1:
        fault = "is encrypted"
    elif info.file_size > LARGEST or info.file_size > max(SMALL, STEEPEST * max(info.compress_size, 1)):
        fault = f"unpacks to {info.file_size:,} bytes, as a bomb would"
    if fault:
        raise UserError(
            f"the member {info.filename!r} {fault}", location=str(archive), hint="get the archive elsewhere"
        )


def _names(info: zipfile.ZipInfo) -> Iterator[str]:
    """Its name, and what it would be where the archive lacks the mark that says UTF-8."""
    yield _plain(info.filename)
    if not info.flag_bits & 0x800:
        try:
            yield _plain(info.filename.encode("cp437").decode("utf-8"))
        except UnicodeError:
            return


def _plain(name: str) -> str:
    """One spelling for letters that may be written with or without combining marks."""
    return unicodedata.normalize("NFC", str(PurePosixPath(name)))


def _stamp(parts: tuple[Path, ...]) -> tuple[int, ...]:
    return tuple(path.stat().st_mtime_ns for path in parts)


@lru_cache(maxsize=64)
def _opened(parts: tuple[Path, ...], stamp: tuple[int, ...], process: int) -> zipfile.ZipFile:
    """One open archive for each process: a shared file position would mix up what two processes read."""
    return zipfile.ZipFile(parts[0] if len(parts) == 1 else _ConcatenatedFile(parts))


class _ConcatenatedFile(io.RawIOBase):
    """Files one after the other, read as one."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._files = [path.open("rb") for path in parts]
        self._sizes = [path.stat().st_size for path in parts]
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: sum(self._sizes)}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, across the seams."""
        wanted = sum(self._sizes) - self._at if size is None or size < 0 else size
        pieces, start = [], 0
        for file, length in zip(self._files, self._sizes, strict=True):
            if wanted > 0 and start <= self._at < start + length:
                file.seek(self._at - start)
                pieces.append(file.read(min(wanted, start + length - self._at)))
                self._at, wanted = self._at + len(pieces[-1]), wanted - len(pieces[-1])
            start += length
        return b"".join(pieces)

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()
