"""Find a data set's pictures: beside its JSON, under ``imgs/``, or inside zip archives.

EVOKE and KORE-74K are published with their pictures in zip files, one of them split into parts. The archives are read
in place: nothing is unpacked, so a name in an archive cannot point outside its folder.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import struct
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from PIL import Image

from benchmarks.errors import UserError, shown

MAX_BYTES = 128 << 20
"""Maximum unpacked size of a member; a larger one is treated as a zip bomb."""
MAX_RATIO = 200
"""Maximum compression ratio of a member larger than ``RATIO_MIN_BYTES``."""
RATIO_MIN_BYTES = 1 << 20
_PART = re.compile(r"(.+?)[._-]?part[._-]?(\d+)(?:\.zip)?$|(.+\.zip)\.(\d+)$", re.IGNORECASE)
BROKEN = (OSError, SyntaxError, ValueError, EOFError, OverflowError, struct.error)
"""What Pillow raises on bytes that are not a picture."""
LAYOUT = ("json", "jsonl")
"""Folders in which the published data sets keep their JSON, beside ``imgs``."""


@dataclass(frozen=True)
class ZipMember:
    """A file in an archive. Satisfies ``benchmarks.records.ReadableFile``.

    Args:
        parts: The archive's files in order; several if it is split.
        name: The name in the archive.
    """

    parts: tuple[Path, ...]
    name: str

    def __str__(self) -> str:
        return f"{self.parts[0]}!{self.name}"

    def read_bytes(self) -> bytes:
        """The unpacked bytes, checked against the archive's checksum.

        Raises:
            OSError: The archive is damaged or missing.
        """
        try:
            return _open_archive(self.parts, _timestamps(self.parts), os.getpid()).read(self.name)
        except (zipfile.BadZipFile, zlib.error, KeyError, RuntimeError, NotImplementedError) as error:
            raise OSError(0, f"the archive is damaged: {error}") from error


def find_picture(folder: Path, name: str) -> Path | ZipMember:
    """Find a row's picture: beside the file, under ``imgs`` of its data set, or in one of its archives.

    Args:
        folder: The folder of the file with the row.
        name: The picture's name in the row.

    Raises:
        ValueError: The name points outside the folder, or the file is missing or not an image of a sane size.
        UserError: An archive is unsafe or damaged.
    """
    inside = PurePosixPath(name)
    if not name.strip():
        raise ValueError("the image name is empty; leave the column out of a row without a picture")
    if inside.is_absolute() or ".." in inside.parts or "\0" in name:
        raise ValueError(f"the image name {shown(name)} points outside the folder")
    for candidate in _picture_folders(folder):
        if (path := find_beside(candidate, name)) is not None:
            _check_header(path, name)
            return path
    member = _find_member(folder, name)
    if member is None:
        raise ValueError(f"the image {shown(name)} is missing from {folder} and {dataset_root(folder) / 'imgs'}")
    return member


def find_beside(folder: Path, name: str) -> Path | None:
    """The file of this name, also if its letters are written with combining marks and the name's are not.

    Raises:
        ValueError: No file can have this name.
    """
    try:
        if (path := folder / name).is_file():
            return path
        if name.isascii():
            return None
        path = folder
        for part in PurePosixPath(name).parts:
            if not path.is_dir():
                return None
            path /= _entries(path, path.stat().st_mtime_ns).get(_normalize(part), part)
        return path if path.is_file() else None
    except OSError as error:
        reason = "a name is too long" if error.errno == errno.ENAMETOOLONG else error.strerror
        raise ValueError(f"the image {shown(name)} cannot be looked up ({reason})") from error


@lru_cache(maxsize=16)
def _entries(folder: Path, time: int) -> Mapping[str, str]:
    """The names in a folder by their composed spelling."""
    return {_normalize(path.name): path.name for path in sorted(folder.iterdir()) if not path.name.isascii()}


def _picture_folders(folder: Path) -> Iterator[Path]:
    yield folder
    images = dataset_root(folder) / "imgs"
    yield images
    if images.is_dir():
        for depth in ("*", "*/*"):
            yield from _subfolders(images, depth, images.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _subfolders(images: Path, depth: str, time: int) -> tuple[Path, ...]:
    return tuple(sorted(path for path in images.glob(depth) if path.is_dir()))


def _check_header(path: Path, name: str) -> None:
    """Check only the header; damage further in is found when the picture is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            Image.open(path).close()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"the image {shown(name)} has too many pixels") from error
    except BROKEN as error:
        raise ValueError(f"the image {shown(name)} is damaged or not an image") from error


def _find_member(folder: Path, name: str) -> ZipMember | None:
    """Find a picture in the archives; either name may have more leading folders than the other.

    Raises:
        UserError: An archive is unsafe or damaged.
        ValueError: Several members match.
    """
    key = _normalize(name)
    for parts in list_archives(folder):
        index = _index(parts, _timestamps(parts))
        if key in index:
            member = index[key]
            if member is None:
                raise ValueError(f"several files in {parts[0].name} are called {shown(name)}")
            return ZipMember(parts, member)
    return None


def dataset_root(folder: Path) -> Path:
    """The data set's own folder, given the one with its JSON."""
    return folder.parent.parent if folder.parts[-2:] == LAYOUT else folder


def dataset_file(folder: Path, name: str) -> Path:
    """A file of a data set: in its folder, or where the published data sets have their JSON."""
    published = folder.joinpath(*LAYOUT, name)
    return published if published.is_file() and not (folder / name).is_file() else folder / name


def list_archives(folder: Path) -> list[tuple[Path, ...]]:
    """The archives of a data set, each with its parts in order."""
    root = dataset_root(folder)
    return _list_archives(root, _timestamps([path for path in (root, root / "imgs") if path.is_dir()]))


@lru_cache(maxsize=16)
def _list_archives(root: Path, timestamps: tuple[int, ...]) -> list[tuple[Path, ...]]:
    whole: list[tuple[Path, ...]] = []
    split: dict[Path, list[tuple[int, Path]]] = {}
    for path in sorted({*root.glob("*"), *root.glob("*/*"), *root.glob("imgs/**/*")}):
        if not path.is_file():
            continue
        part = _PART.fullmatch(path.name)
        if part:
            split.setdefault(path.with_name(part[1] or part[3]), []).append((int(part[2] or part[4]), path))
        elif path.suffix.lower() == ".zip":
            whole.append((path,))
    return whole + [tuple(path for _, path in sorted(parts)) for parts in split.values()]


@lru_cache(maxsize=64)
def _index(parts: tuple[Path, ...], timestamps: tuple[int, ...]) -> Mapping[str, str | None]:
    """Members by their name and by every suffix of it; None if two members share a suffix.

    Raises:
        UserError: The archive is unsafe or damaged.
    """
    index: dict[str, str | None] = {}
    try:
        infos = _open_archive(parts, timestamps, os.getpid()).infolist()
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
                suffix = "/".join(steps[start:])
                index[suffix] = info.filename if index.get(suffix, info.filename) == info.filename else None
    for info in infos:  # a full name takes precedence over another name's suffix
        index |= {name: info.filename for name in _names(info) if not info.is_dir()}
    return index


def _check(info: zipfile.ZipInfo, archive: Path) -> None:
    path = PurePosixPath(info.filename)
    problem = ""
    if path.is_absolute() or ".." in path.parts or "\\" in info.filename or re.match(r"[A-Za-z]:", info.filename):
        problem = "points outside its folder"
    elif stat.S_ISLNK(info.external_attr >> 16):
        problem = "is a link"
    elif info.flag_bits & 1:
        problem = "is encrypted"
    elif info.file_size > MAX_BYTES or info.file_size > max(RATIO_MIN_BYTES, MAX_RATIO * max(info.compress_size, 1)):
        problem = f"unpacks to {info.file_size:,} bytes, like a zip bomb"
    if problem:
        raise UserError(
            f"the member {info.filename!r} {problem}", location=str(archive), hint="get the archive from another source"
        )


def _names(info: zipfile.ZipInfo) -> Iterator[str]:
    """Its name, and its UTF-8 reading if the archive does not set the UTF-8 flag."""
    yield _normalize(info.filename)
    if not info.flag_bits & 0x800:
        try:
            yield _normalize(info.filename.encode("cp437").decode("utf-8"))
        except UnicodeError:
            return


def _normalize(name: str) -> str:
    """Use one spelling for letters that may be written with or without combining marks."""
    return unicodedata.normalize("NFC", str(PurePosixPath(name)))


def _timestamps(paths: Sequence[Path]) -> tuple[int, ...]:
    return tuple(path.stat().st_mtime_ns for path in paths)


@lru_cache(maxsize=64)
def _open_archive(parts: tuple[Path, ...], timestamps: tuple[int, ...], process: int) -> zipfile.ZipFile:
    """One open archive per process: with a shared file position, two processes would read each other's data."""
    return zipfile.ZipFile(parts[0] if len(parts) == 1 else _ConcatenatedFile(parts))


class _ConcatenatedFile(io.RawIOBase):
    """Several files that are read as one."""

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
        """Read at most ``size`` bytes, across file boundaries."""
        remaining = sum(self._sizes) - self._at if size is None or size < 0 else size
        pieces, start = [], 0
        for file, length in zip(self._files, self._sizes, strict=True):
            if remaining > 0 and start <= self._at < start + length:
                file.seek(self._at - start)
                pieces.append(file.read(min(remaining, start + length - self._at)))
                self._at, remaining = self._at + len(pieces[-1]), remaining - len(pieces[-1])
            start += length
        return b"".join(pieces)

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()
