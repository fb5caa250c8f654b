"""Small pictures for the sample browser."""

from __future__ import annotations

import base64
import io

from PIL import Image

SIDE = 112
"""Longest side of a thumbnail, in pixels."""


def thumbnail(picture: Image.Image, side: int = SIDE) -> str:
    """A ``data:image/webp`` URI of at most ``side`` x ``side`` pixels; about 2 kB. Never enlarges."""
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=70, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
