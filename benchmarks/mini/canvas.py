"""Draw the miniature's pictures on a 4 x 4 grid of 16-pixel patches and record what covers each patch."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from benchmarks.mini.font import glyph

Pixels = npt.NDArray[np.uint8]
Labels = tuple[str | None, ...]

SIDE = 64
PATCH = 16
GRID = SIDE // PATCH

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 35),
    "yellow": (250, 205, 20),
    "green": (35, 150, 60),
    "blue": (40, 90, 220),
    "purple": (135, 50, 165),
    "black": (25, 25, 28),
    "pink": (250, 130, 185),
    "brown": (135, 80, 35),
}
SHAPES = ("circle", "square", "triangle", "plus")


class Canvas:
    """A picture to draw on.

    Args:
        rng: Chooses the light background, which makes every picture different.
    """

    def __init__(self, rng: random.Random) -> None:
        shade = tuple(rng.randint(228, 255) for _ in range(3))
        self.pixels: Pixels = np.empty((SIDE, SIDE, 3), dtype=np.uint8)
        self.pixels[:] = shade
        self._labels: list[str | None] = [None] * (GRID * GRID)

    @property
    def labels(self) -> Labels:
        """What covers each patch, row by row; None if nothing nameable does."""
        return tuple(self._labels)

    def stamp(self, rgba: Pixels, x: int, y: int, label: str | None) -> None:
        """Blend ``(h, w, 4) uint8`` RGBA with its top left corner at (x, y), clipped at the edges."""
        height, width = rgba.shape[:2]
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, SIDE), min(y + height, SIDE)
        source = rgba[top - y : bottom - y, left - x : right - x].astype(np.uint16)
        alpha = source[..., 3:]
        target = self.pixels[top:bottom, left:right]
        target[:] = (source[..., :3] * alpha + target * (255 - alpha)) // 255
        self.mark(left, top, right, bottom, label)

    def fill(self, coverage: Pixels, x: int, y: int, colour: str, label: str | None) -> None:
        """Paint ``(h, w) uint8`` coverage in a named colour with its top left corner at (x, y), inside the picture."""
        height, width = coverage.shape
        target = self.pixels[y : y + height, x : x + width]
        alpha = coverage[..., None].astype(np.uint16)
        target[:] = (np.array(COLOURS[colour], dtype=np.uint16) * alpha + target * (255 - alpha)) // 255
        self.mark(x, y, x + width, y + height, label)

    def write(self, text: str, column: int, row: int, colour: str = "black") -> None:
        """Print one character per patch, starting at patch (column, row); each patch is labelled with its character."""
        for offset, character in enumerate(text):
            self.fill(glyph(character), (column + offset) * PATCH + 3, row * PATCH + 1, colour, character)

    def mark(self, left: int, top: int, right: int, bottom: int, label: str | None) -> None:
        """Label each patch that the box covers by at least a fifth."""
        if label is None:
            return
        for row in range(top // PATCH, (bottom - 1) // PATCH + 1):
            tall = min(bottom, (row + 1) * PATCH) - max(top, row * PATCH)
            for column in range(left // PATCH, (right - 1) // PATCH + 1):
                wide = min(right, (column + 1) * PATCH) - max(left, column * PATCH)
                if tall * wide * 5 >= PATCH * PATCH:
                    self._labels[row * GRID + column] = label


@cache
def draw_shape(name: str, size: int) -> Pixels:
    """The coverage of a filled shape, ``(size, size) uint8``, with smooth edges."""
    big = size * 4
    image = Image.new("L", (big, big), 0)
    draw = ImageDraw.Draw(image)
    if name == "circle":
        draw.ellipse((0, 0, big - 1, big - 1), fill=255)
    elif name == "square":
        draw.rectangle((big // 12, big // 12, big - big // 12, big - big // 12), fill=255)
    elif name == "triangle":
        draw.polygon(((big // 2, 0), (big - 1, big - 1), (0, big - 1)), fill=255)
    else:
        arm = big // 3
        draw.rectangle((arm, 0, big - arm, big), fill=255)
        draw.rectangle((0, arm, big, big - arm), fill=255)
    return np.asarray(image.resize((size, size), Image.Resampling.BOX))


def resize(rgba: Pixels, side: int) -> Pixels:
    """Resize a square RGBA drawing without dark fringes at transparent edges."""
    if rgba.shape[0] == side:
        return rgba
    return np.asarray(Image.fromarray(rgba).resize((side, side), Image.Resampling.LANCZOS))


def jitter(pixels: Pixels, rng: random.Random) -> Pixels:
    """Vary brightness and contrast a little, so that no drawing is learnt by its exact pixels."""
    gain, lift = rng.uniform(0.75, 1.1), rng.uniform(-12, 18)
    varied: Pixels = np.clip(pixels * np.float32(gain) + np.float32(lift), 0, 255).astype(np.uint8)
    return varied
