"""Find flags that a small model cannot distinguish."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from tools.miniature.words import Pngs, Row

CLOSE = 30.0
"""Root mean square difference of RGB at 8 by 8, chosen by looking at the pairs around it."""


def thumbnail(png: bytes) -> npt.NDArray[np.float64]:
    """The picture on white, 8 by 8 RGB, flattened."""
    with Image.open(io.BytesIO(png)) as image:
        drawing = image.convert("RGBA")
    paper = Image.new("RGBA", drawing.size, "white")
    paper.alpha_composite(drawing)
    return np.asarray(paper.convert("RGB").resize((8, 8), Image.Resampling.BOX), dtype=np.float64).ravel()


def pairs(rows: list[Row], pngs: Pngs) -> list[tuple[float, str, str]]:
    """(distance, id, id) of all pairs in the style that all flags have, closest first."""
    ids = [row["id"] for row in rows]
    points = np.stack([thumbnail(pngs[key, "twemoji"]) for key in ids])
    gaps = np.sqrt(((points[:, None] - points[None]) ** 2).mean(-1))
    return sorted((float(gaps[i, j]), ids[i], ids[j]) for i in range(len(ids)) for j in range(i))


def look_alikes(rows: list[Row], pngs: Pngs) -> set[str]:
    """Ids of flags that have a close look-alike."""
    return {key for gap, *both in pairs(rows, pngs) if gap < CLOSE for key in both}
