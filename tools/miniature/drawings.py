"""Render vector drawings as small palette PNGs, 64 by 64."""

from __future__ import annotations

import io
import json
from pathlib import Path

from PIL import Image

from benchmarks.mini.canvas import SIDE, Pixels

ICON_SETS = {
    "noto": "noto",
    "fluent": "fluent",
    "twemoji": "twemoji",
    "blob": "noto-v1",
    "emojione": "emojione",
    "fxemoji": "fxemoji",
}
"""Style -> source key. Each style is by one artist."""


def encode(image: Image.Image, colours: int = 48) -> bytes:
    """Quantise an RGBA image to a palette with transparency and return PNG bytes."""
    small = image.quantize(colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    return _save(small)


def encode_picture(pixels: Pixels, colours: int) -> bytes:
    """Quantise an opaque RGB picture to a palette and return PNG bytes."""
    return _save(Image.fromarray(pixels).quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE))


def _save(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def render(svg: str, side: int = SIDE) -> Image.Image:
    """Draw an SVG into a transparent square, keeping its proportions, centred.

    Raises:
        ValueError: The SVG is invalid or the drawing is blank.
    """
    import resvg_py  # only the build needs this package

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side * 2))
    big = Image.open(io.BytesIO(png)).convert("RGBA")
    if big.getchannel("A").getextrema()[1] == 0:
        raise ValueError("the drawing is blank")
    big.thumbnail((side, side), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(big, ((side - big.width) // 2, (side - big.height) // 2))
    return square


class IconSet:
    """The icons of one Iconify package."""

    def __init__(self, folder: Path) -> None:
        raw = json.loads((folder / "icons.json").read_text("utf-8"))
        self.icons = raw["icons"]
        self.aliases = raw.get("aliases", {})
        self.size = (raw.get("width", 16), raw.get("height", 16))
        self.names = json.loads((folder / "chars.json").read_text("utf-8"))

    def svg(self, name: str) -> str | None:
        """The SVG of an icon, or None; rotated and flipped aliases are ignored."""
        if name in self.aliases:
            alias = self.aliases[name]
            if set(alias) - {"parent", "hidden"}:
                return None
            name = alias["parent"]
        icon = self.icons.get(name)
        if icon is None or icon.get("hidden"):
            return None
        width, height = icon.get("width", self.size[0]), icon.get("height", self.size[1])
        box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{box}" '
            f'width="{width}" height="{height}">{icon["body"]}</svg>'
        )

    def by_code(self, hexcode: str, label: str) -> str | None:
        """The SVG of a code point sequence such as "1F43B", or else of a label such as "polar bear"."""
        code = hexcode.lower()
        names = [self.names[key] for key in (code, code.replace("-fe0f", "")) if key in self.names]
        slug = label.lower().replace(" ", "-")
        names += [slug, slug.replace("-", "")]  # fxemoji joins words
        return next((svg for name in names if (svg := self.svg(name))), None)
