"""Reading JSON and JSONL files so that every bad row is told with its line, all of them together."""

from __future__ import annotations

import codecs
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

from PIL import Image, UnidentifiedImageError

from benchmarks.data import zip_pictures as archives
from benchmarks.errors import UserError

SHOWN = 20
"""How many bad rows an error lists; the rest are counted."""
Row = dict[str, Any]


class HasId(Protocol):
    """What a row describes."""

    @property
    def id(self) -> str:
        """Found once in a file."""


Thing = TypeVar("Thing", bound=HasId)


@dataclass
class RowErrors:
    """What is wrong with a file, gathered while reading on.

    Args:
        file: The file that is read.
        mend: What the user should do.
    """

    file: Path
    hint: str
    found: list[str] = field(default_factory=list)

    def add(self, line: int, problem: str) -> None:
        """Note a bad row."""
        self.found.append(f"{self.file}:{line}: {problem}")

    def raise_any(self) -> None:
        """Raise one error for all bad rows.

        Raises:
            UserError: There was at least one.
        """
        if not self.found:
            return
        listed = "\n  ".join(self.found[:SHOWN])
        more = f"\n  and {len(self.found) - SHOWN} more" if len(self.found) > SHOWN else ""
        count = "1 bad row" if len(self.found) == 1 else f"{len(self.found)} bad rows"
        raise UserError(f"{count}:\n  {listed}{more}", location=str(self.file), hint=self.hint)


Rows = Callable[[Path, RowErrors], Iterator[tuple[int, Row]]]
"""``json_lines`` or ``json_list``."""


def read_all(file: Path, rows: Rows, described: Callable[[Row], Thing], hint: str) -> list[Thing]:
    """What all rows of a file describe, in their order.

    Args:
        file: Read whole.
        rows: How it is laid out.
        described: What one row describes; raises ValueError for a bad one.
        mend: What the user should do about bad rows.

    Raises:
        UserError: Any row is bad or has the id of an earlier one, or there is none; all are listed with their lines.
    """
    problems = RowErrors(file, hint)
    found: dict[str, tuple[int, Thing]] = {}
    for line, row in rows(file, problems):
        try:
            one = described(row)
            if one.id in found:
                raise ValueError(f"the id {one.id!r} was used in line {found[one.id][0]} already")
        except ValueError as error:
            problems.add(line, str(error))
            continue
        found[one.id] = line, one
    if not found and not problems.found:
        problems.add(1, "the file is empty: it holds no row")
    problems.raise_any()
    return [one for _, one in found.values()]


def text_of(path: Path) -> str:
    """A whole UTF-8 file.

    Raises:
        UserError: It is missing, unreadable or not UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError("not UTF-8 text", location=f"{path}:{line}", hint="save the file as UTF-8") from error


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot be read ({error.strerror})", location=str(path), hint="check the path")


def json_lines(path: Path, problems: RowErrors) -> Iterator[tuple[int, Row]]:
    """(line, object) of each line of a JSONL file, which is read as it is asked for; a broken line is noted.

    Raises:
        UserError: The file is missing or unreadable.
    """
    for line, content in enumerate(_lines(path), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content.decode())
        except UnicodeDecodeError:
            problems.add(line, "not UTF-8 text")
            continue
        except (ValueError, RecursionError) as error:
            problems.add(line, f"broken JSON ({error})")
            continue
        if isinstance(row, dict):
            yield line, row
        else:
            problems.add(line, f"a JSON object is wanted, not {type(row).__name__}")


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield file.readline().removeprefix(codecs.BOM_UTF8)
            yield from file
    except OSError as error:
        raise _unreadable(path, error) from error


def json_list(path: Path, problems: RowErrors) -> Iterator[tuple[int, Row]]:
    """(line, object) of each element of a JSON file that holds one list; reading ends where the JSON breaks."""
    text, decoder, line, seen = text_of(path), json.JSONDecoder(), 1, 0
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        problems.add(1, "the file must hold one JSON list")
        return
    at = _skip(text, at + 1)
    while text[at : at + 1] != "]":
        line, seen = line + text.count("\n", seen, at), at
        try:
            row, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            broken = getattr(error, "lineno", line)
            problems.add(broken, f"broken JSON ({getattr(error, 'msg', error)}); nothing after it was read")
            return
        if isinstance(row, dict):
            yield line, row
        else:
            problems.add(line, f"a JSON object is wanted, not {type(row).__name__}")
        at = _skip(text, end)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "]":
            here = line + text.count("\n", seen, at)
            problems.add(here, "broken JSON (',' or ']' is wanted); nothing after it was read")
            return


def _skip(text: str, at: int) -> int:
    """The next place that is no white space."""
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def picture_path(folder: Path, name: str) -> Path | archives.ZipMember:
    """Where a row's picture lies: beside the file, under ``imgs`` of its data set, or in one of its archives.

    Raises:
        ValueError: The name leads out of the folder, the file is missing, or it is no image of a sane size.
        UserError: An archive is unsafe or damaged.
    """
    inside = PurePosixPath(name)
    if not name.strip() or inside.is_absolute() or ".." in inside.parts or "\0" in name:
        raise ValueError(f"the image name {name!r} leads out of the folder")
    for place in _picture_folders(folder):
        if (path := place / name).is_file():
            _check_picture(path, name)
            return path
    member = archives.find(folder, name)
    if member is None:
        raise ValueError(f"the image {name!r} is missing from {folder} and {archives.root_of(folder) / 'imgs'}")
    return member


def _picture_folders(folder: Path) -> Iterator[Path]:
    """Where a data set's pictures may lie, unpacked by hand or as they were made."""
    yield folder
    images = archives.root_of(folder) / "imgs"
    yield images
    if images.is_dir():
        for depth in ("*", "*/*"):
            yield from _folders(images, depth, images.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _folders(images: Path, depth: str, time: int) -> tuple[Path, ...]:
    return tuple(sorted(path for path in images.glob(depth) if path.is_dir()))


def _check_picture(path: Path, name: str) -> None:
    """Look at the header alone; damage further in shows when the picture is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            Image.open(path).close()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"the image {name!r} has too many pixels") from error
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"the image {name!r} is damaged or no image") from error
