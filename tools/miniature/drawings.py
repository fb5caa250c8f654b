"""Vector drawings to small palette PNGs, 64 by 64."""

from __future__ import annotations

import io
import json
from pathlib import Path

from PIL import Image

from benchmarks.mini.world import SIDE

ICON_SETS = {
    "noto": "noto",
    "fluent": "fluent",
    "twemoji": "twemoji",
    "blob": "noto-v1",
    "emojione": "emojione",
    "fxemoji": "fxemoji",
}
"""Style -> source key. A style is one artist's hand."""


def encode(image: Image.Image, colours: int = 48) -> bytes:
    """Quantise an RGBA image to a palette with transparency and return PNG bytes."""
    small = image.quantize(colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    small.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def render(svg: str, side: int = SIDE) -> Image.Image:
    """Draw an SVG into a transparent square, keeping its proportions, centred.

    Raises:
        ValueError: The drawing does not parse or comes out blank.
    """
    import resvg_py  # a package that only the build needs

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side * 2))
    big = Image.open(io.BytesIO(png)).convert("RGBA")
    if big.getchannel("A").getextrema()[1] == 0:
        raise ValueError("the drawing is blank")
    big.thumbnail((side, side), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(big, ((side - big.width) // 2, (side - big.height) // 2))
    return square


class IconSet:
    """One Iconify package: names, aliases and code points to SVG."""

    def __init__(self, folder: Path) -> None:
        raw = json.loads((folder / "icons.json").read_text("utf-8"))
        self.icons = raw["icons"]
        self.aliases = raw.get("aliases", {})
        self.size = (raw.get("width", 16), raw.get("height", 16))
        self.names = json.loads((folder / "chars.json").read_text("utf-8"))

    def svg(self, name: str) -> str | None:
        """The drawing of that name, or None; rotated or flipped aliases count as none."""
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
        """The drawing of a code point sequence such as "1F43B", else of the label such as "polar bear"."""
        code = hexcode.lower()
        names = [self.names[key] for key in (code, code.replace("-fe0f", "")) if key in self.names]
        slug = label.lower().replace(" ", "-")
        names += [slug, slug.replace("-", "")]  # fxemoji runs words together
        return next((svg for name in names if (svg := self.svg(name))), None)
