"""Data inside a page: JSON, compressed, in letters that can neither end an element nor start one."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any


def pack_json(data: Any) -> str:
    """What the page's script unpacks with the browser's own DecompressionStream. Equal data give equal text."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), mtime=0)).decode("ascii")


def unpacked(text: str) -> Any:
    """The data again."""
    return json.loads(gzip.decompress(base64.b64decode(text, validate=True)))
