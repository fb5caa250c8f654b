"""The pictures of a row: a name, a data URI, or bytes with a path as in a `datasets` table. Nothing is downloaded."""

from __future__ import annotations

import base64
import binascii
import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.data.pictures import BROKEN, MAX_BYTES, find_picture
from benchmarks.data.strict_json import RefusedValueError, decode
from benchmarks.data.tables import BYTES, PATH, TablePicture
from benchmarks.errors import shown
from benchmarks.records import Picture

COLUMNS = ("images", "image", "picture", "file_name")
"""Columns with a row's pictures; the first that a row has counts."""
LOCAL = "file://"
_DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def picture_values(row: Mapping[str, Any]) -> list[Any]:
    """The values of a row's pictures, in order; a cell of a CSV file may hold a JSON list of them.

    Raises:
        ValueError: The column holds something else.
    """
    column = next((name for name in COLUMNS if row.get(name)), None)
    if column is None:
        return []
    values = from_json(row[column])
    values = values if isinstance(values, list) else [values]
    if not all(map(is_picture_value, values)):
        raise ValueError(f"{column} must be a file's name or a list of them")
    return values


def is_picture_value(value: object) -> bool:
    """Whether ``open_picture`` takes values of this type."""
    return isinstance(value, str | Mapping | TablePicture | Picture)


def from_json(value: Any) -> Any:
    """The list or object in a cell of a CSV file; any other value as it is.

    Raises:
        ValueError: A key in it is given twice, or it holds half a character.
    """
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            return decode(value)
        except RefusedValueError:
            raise
        except (ValueError, RecursionError):
            return value
    return value


def picture_name(value: Any) -> str:
    """The name of a picture as its row gives it; empty for bytes and data URIs."""
    if isinstance(value, Picture):
        value = value.source.name if isinstance(value.source, Path | TablePicture) else ""
    if isinstance(value, TablePicture):
        return value.name
    if isinstance(value, Mapping):
        return str(value.get(PATH) or "")
    return "" if _DATA_URI.match(str(value)) else str(value)


def open_picture(folder: Path, value: Any) -> Picture:
    """Find a row's picture and check its header.

    Args:
        folder: The folder of the file with the row.
        value: A name relative to it (or below it, if absolute), a data URI, a mapping with ``bytes`` or ``path``,
            or what was opened already.

    Raises:
        ValueError: It is missing, outside the folder, an address on a network, or not an image of a sane size.
    """
    if isinstance(value, Picture):
        return value
    if isinstance(value, TablePicture):
        _check_header(value.read_bytes())
        return Picture(value)
    if isinstance(value, Mapping):
        content = value.get(BYTES)
        if isinstance(content, bytes):
            _check_header(content)
            return Picture(content)
        value = content or value.get(PATH)
    if isinstance(value, str) and not value.strip():
        raise ValueError("the image name is empty; leave the column out of a row without a picture")
    if not isinstance(value, str):
        raise ValueError("a picture has neither bytes nor a path")
    if match := _DATA_URI.match(value):
        return Picture(_decode(value[match.end() :]))
    if value[:5].lower() == "data:":
        raise ValueError(f"a data URI of a picture begins with data:image/png;base64, and not with {shown(value, 30)}")
    name = value.removeprefix(LOCAL)
    if _ADDRESS.match(name):
        raise ValueError(f"no picture is downloaded: {shown(name)} is an address; put the file beside the data")
    absolute = Path(name)
    if absolute.is_absolute() and absolute.is_relative_to(folder.absolute()):
        name = str(absolute.relative_to(folder.absolute()))
    return Picture(find_picture(folder, name))


def _decode(text: str) -> bytes:
    if len(text) > 2 * MAX_BYTES:
        raise ValueError("the data URI is too long")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"the data URI {shown(text)} is not base64") from error
    _check_header(content)
    return content


def _check_header(content: bytes) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            Image.open(io.BytesIO(content)).close()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError("a picture in the row has too many pixels") from error
    except BROKEN as error:
        raise ValueError("a picture in the row is damaged or not an image") from error
