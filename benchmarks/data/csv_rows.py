"""Read CSV and TSV files so that each line is a row, a part of one, or an error: no row is lost silently."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TextIO

from benchmarks.data.json_rows import Row, RowErrors, not_utf8, unreadable

FIELD_LIMIT = 1 << 30
"""Longest cell, in characters: a table of a benchmark holds pictures in base64."""


def csv_rows(path: Path, errors: RowErrors, separator: str) -> Iterator[tuple[int, Row]]:
    """Rows by the names in the first line; cells may span lines, and a row's line is its first.

    Raises:
        UserError: The file cannot be read or is not UTF-8.
    """
    csv.field_size_limit(FIELD_LIMIT)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _Table(file, separator).rows(errors)
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error


class _Table:
    """A file of cells, with the lines that each row was read from."""

    def __init__(self, file: TextIO, separator: str) -> None:
        self._separator, self._lines = separator, list[str]()
        self._reader = csv.reader(self._remember(file), delimiter=separator, strict=True)

    def _remember(self, file: TextIO) -> Iterator[str]:
        for line in file:
            self._lines.append(line)
            yield line

    def rows(self, errors: RowErrors) -> Iterator[tuple[int, Row]]:
        names: list[str] = []
        while True:
            line = self._reader.line_num + 1
            self._lines.clear()
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                last = self._reader.line_num
                lines = f" in the lines {line} to {last}" if last > line else ""
                problem = f"broken CSV{lines} ({error}); the rest of the file was not read"
                errors.stop(line, f"{problem}{self._about_quotes()}")
                return
            if not names:
                names = [name.strip() for name in cells]
                if len(set(names)) < len(names):
                    errors.stop(line, "two columns have the same name; the file was not read")
                    return
            elif self._swallowed(len(names)):
                last = self._reader.line_num
                errors.add(line, f"a quote joins the rows of the lines {line} to {last} to one{self._about_quotes()}")
            elif len(cells) == len(names):
                yield line, dict(zip(names, cells, strict=True))
            elif cells:
                problem = f"{len(cells)} cells, but the first line names {len(names)} columns"
                errors.add(line, f"{problem}; quote cells with {'tabs' if self._separator == chr(9) else 'commas'}")

    def _swallowed(self, columns: int) -> bool:
        """Whether a row has several lines of which each is a row by itself: a quote opened and closed by accident.

        Texts have commas, so lines of a CSV file must also begin alike: with numbers, or with files of one kind.
        """
        if columns < 2 or len(self._lines) < 2:
            return False
        if any(line.count(self._separator) != columns - 1 for line in self._lines):
            return False
        kinds = {_kind(line.split(self._separator, 1)[0]) for line in self._lines}
        return self._separator == "\t" or (len(kinds) == 1 and kinds != {""})

    def _about_quotes(self) -> str:
        """What to do about a cell with a quote that is not meant to enclose it."""
        if not any('"' in line for line in self._lines):
            return ""
        return '; write a cell that begins with a quote in quotes, and each quote in it twice: """Stop"" is written"'


def _kind(cell: str) -> str:
    """What the first cell of a row is: a number, a file of some kind, or ""."""
    return "number" if cell.strip().isdecimal() else PurePosixPath(cell.strip()).suffix
