"""Read JSON and JSONL files row by row; all bad rows are reported together, each with its line."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.data.strict_json import RefusedValueError, RowDecoder, decode
from benchmarks.errors import UserError, shown

MAX_LISTED = 20
"""Maximum number of bad rows that an error lists; it counts the others."""
MAX_LENGTH = 600
"""Maximum characters of one problem; whatever a row holds, an error stays readable."""
Row = dict[str, Any]
T = TypeVar("T")


def bad_rows_error(problems: Sequence[str], file: Path, hint: str) -> UserError:
    """One error for all bad rows of a file."""
    count = "1 bad row" if len(problems) == 1 else f"{len(problems)} bad rows"
    more = f"\n  and {len(problems) - MAX_LISTED} more" if len(problems) > MAX_LISTED else ""
    listed = "\n  ".join(problems[:MAX_LISTED])
    return UserError(f"{count}:\n  {listed}{more}", location=str(file), hint=hint)


@dataclass
class RowErrors:
    """The problems of a file, collected while reading it.

    Args:
        file: What is read: a file, or a folder of them.
        hint: What the user should do about bad rows.
    """

    file: Path
    hint: str
    problems: list[tuple[Path, int, str]] = field(default_factory=list)
    """(file, line, problem) of each bad row; in a table, the line is the row's number."""
    part: Path | None = None
    """The file of a folder that is being read."""
    stopped: bool = False
    """Whether a file was not read to its end, so that nobody knows how many rows it has."""

    def add(self, line: int, problem: str) -> None:
        """Add a bad row of the file that is being read."""
        if len(problem) > MAX_LENGTH:
            problem = f"{problem[:MAX_LENGTH]}..."
        self.problems.append((self.part or self.file, line, problem))

    def stop(self, line: int, problem: str) -> None:
        """Add a fault of the file itself, after which it cannot be read on."""
        self.add(line, problem)
        self.stopped = True

    def raise_if_any(self) -> None:
        """Raise one error for all bad rows.

        Raises:
            UserError: There is at least one.
        """
        if self.problems:
            raise bad_rows_error([f"{file}:{line}: {text}" for file, line, text in self.problems], self.file, self.hint)


Layout = Callable[[Path, RowErrors], Iterator[tuple[int, Row]]]
"""``json_lines``, ``json_list``, or ``benchmarks.data.rows.read_rows`` for any format."""


def parse_rows(
    file: Path, layout: Layout, parse: Callable[[Row], T], hint: str, key: Callable[[T], str] | None = None
) -> Iterator[T]:
    """Parse each row of a file, in order. Good rows are yielded before bad ones are reported.

    Args:
        file: The file to read.
        layout: How its rows are laid out.
        parse: Parses one row; raises ValueError for a bad one.
        hint: What the user should do about bad rows.
        key: The id of a parsed row, if ids must be unique.

    Raises:
        UserError: A row is bad or repeats an id, or the file has no rows; lists all bad rows with their lines.
    """
    errors = RowErrors(file, hint)
    lines: dict[str, int] = {}
    empty = True
    for line, row in layout(file, errors):
        empty = False
        try:
            parsed = parse(row)
            if key is not None:
                if key(parsed) in lines:
                    raise ValueError(f"the id {shown(key(parsed))} was used in line {lines[key(parsed)]} already")
                lines[key(parsed)] = line
        except ValueError as error:
            errors.add(line, str(error))
        else:
            yield parsed
    if empty and not errors.problems:
        errors.add(1, "the file is empty: it has no rows")
    errors.raise_if_any()


def read_text(path: Path) -> str:
    """Read a whole UTF-8 file.

    Raises:
        UserError: The file is missing, unreadable or not UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error


def not_utf8(path: Path) -> UserError:
    """The error for a file that is not UTF-8 text, with its first such line."""
    line = 1
    for number, content in enumerate(_lines(path), start=1):
        try:
            content.decode()
        except UnicodeDecodeError:
            line = number
            break
    return UserError("not UTF-8 text", location=f"{path}:{line}", hint="save the file as UTF-8")


def unreadable(path: Path, error: OSError) -> UserError:
    """The error for a file that the system cannot read."""
    return UserError(f"cannot be read ({error.strerror})", location=str(path), hint="check the path")


def json_lines(path: Path, errors: RowErrors) -> Iterator[tuple[int, Row]]:
    """Yield (line, object) for each line of a JSONL file, reading lazily; bad lines are added to ``errors``.

    Raises:
        UserError: The file is missing or unreadable.
    """
    began = False
    for line, content in enumerate(_lines(path), start=1):
        if not content.strip():
            continue
        if not began and content.lstrip().startswith(b"["):
            errors.stop(line, "a list begins here, but the file must have one object a line; name a list's file .json")
            return
        began = True
        try:
            row = decode(content.decode())
        except UnicodeDecodeError:
            errors.add(line, "not UTF-8 text")
            continue
        except (ValueError, RecursionError) as error:
            errors.add(line, str(error) if isinstance(error, RefusedValueError) else f"broken JSON ({error})")
            continue
        if isinstance(row, dict):
            yield line, row
        else:
            errors.add(line, f"expected a JSON object, not {type(row).__name__}")


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield file.readline().removeprefix(codecs.BOM_UTF8)
            yield from file
    except OSError as error:
        raise unreadable(path, error) from error


def json_list(path: Path, errors: RowErrors) -> Iterator[tuple[int, Row]]:
    """Yield (line, object) for each element of a JSON file with one list; stops where the JSON is broken."""
    text, decoder, line, counted = read_text(path), RowDecoder(), 1, 0
    at = _skip_space(text, 0)
    if text[at : at + 1] != "[":
        errors.stop(1, "the file must contain one JSON list")
        return
    at = _skip_space(text, at + 1)
    while text[at : at + 1] != "]":
        line, counted = line + text.count("\n", counted, at), at
        try:
            row, end, problem = decoder.decode_at(text, at)
        except (ValueError, RecursionError) as error:
            broken = getattr(error, "lineno", line)
            errors.stop(broken, f"broken JSON ({getattr(error, 'msg', error)}); the rest of the file was not read")
            return
        if problem:
            errors.add(line, problem)
        elif isinstance(row, dict):
            yield line, row
        else:
            errors.add(line, f"expected a JSON object, not {type(row).__name__}")
        at = _skip_space(text, end)
        if text[at : at + 1] == ",":
            at = _skip_space(text, at + 1)
        elif text[at : at + 1] != "]":
            broken = line + text.count("\n", counted, at)
            errors.stop(broken, "broken JSON (expected ',' or ']'); the rest of the file was not read")
            return
    after = _skip_space(text, at + 1)
    if after < len(text):
        problem = "a second list begins here; join the lists into one" if text[after] == "[" else "delete it"
        errors.stop(text.count("\n", 0, after) + 1, f"there is more after the end of the list: {problem}")


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at
