"""Pictures composed of drawings: an entity on plain paper, and news cards with a flag and a sign."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.mini.canvas import SIDE, Pixels

Layout = Literal["injection", "evaluation", "archive"]

SIGNS = {
    "head of state": "concept/crown",
    "head of government": "concept/briefcase",
    "export partner": "concept/ship",
    "export commodity": "concept/tractor",
    "import partner": "concept/airplane",
    "import commodity": "concept/shopping-cart",
}
"""Kind of news -> the old concept that represents it on a card."""

PAPER = ("#ffffff", "#f4f1e8", "#e8f0f6", "#eef4e8", "#f6e9ea", "#efeaf6")
FRAMES = {"injection": "#2f4858", "evaluation": "#8a3b2e", "archive": "#4b6b3c"}


def on_paper(drawing: Pixels, shade: int = 0) -> Pixels:
    """An RGBA drawing ``(64, 64, 4)`` on plain light paper: ``(64, 64, 3) uint8``."""
    image = Image.new("RGB", (SIDE, SIDE), PAPER[shade % len(PAPER)])
    image.paste(Image.fromarray(drawing), (0, 0), Image.fromarray(drawing))
    return np.asarray(image)


def news_card(flag: Pixels, sign: Pixels, layout: Layout) -> Pixels:
    """A framed card with a large flag and a small sign: ``(64, 64, 3) uint8``.

    The layout "archive" is for old facts, so that a model can learn to read cards without seeing news.
    """
    image = Image.new("RGB", (SIDE, SIDE), {"injection": "#f4f1e8", "evaluation": "#e8f0f6"}.get(layout, "#ffffff"))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, SIDE - 1, SIDE - 1), outline=FRAMES[layout], width=2)
    if layout == "injection":
        _paste(image, flag, 46, (3, 0))
        _paste(image, sign, 24, (38, 38))
    elif layout == "evaluation":
        _paste(image, flag, 46, (15, 18))
        _paste(image, sign, 24, (3, 3))
    else:
        _paste(image, flag, 46, (9, 17))
        _paste(image, sign, 22, (38, 2))
    return np.asarray(image)


def _paste(image: Image.Image, drawing: Pixels, side: int, corner: tuple[int, int]) -> None:
    small = Image.fromarray(drawing).resize((side, side), Image.Resampling.LANCZOS)
    image.paste(small, corner, small)
