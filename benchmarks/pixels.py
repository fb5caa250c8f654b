"""Decode any picture to 8-bit RGB, the same way in training, asking, augmenting and reports."""

from __future__ import annotations

from typing import Any

from PIL import ExifTags, Image, ImageCms, ImageOps

WHITE, BLACK = (255, 255, 255, 255), (0, 0, 0, 255)
BITS_8, BITS_16 = 2**8 - 1, 2**16 - 1
SIDEWAYS = frozenset({5, 6, 7, 8})
"""EXIF orientations in which width and height change places."""


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """Width and height in pixels as the picture is meant to be seen, after its EXIF orientation."""
    width, height = image.size
    if image.format == "TIFF":  # Pillow turns these itself
        return width, height
    return (height, width) if image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS else (width, height)


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture in 8-bit RGB, upright; of an animation, the first frame.

    Transparent parts become white, or black if nothing would be seen on white. 16 bits are scaled to 8. 32-bit integers
    must fit in 16 bits, and floats lie in 0-1 or 0-255.

    Raises:
        ValueError: The values cannot be scaled, or nothing of the picture would remain.
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "RGB" and not upright.has_transparency_data:
        return upright
    converted = _on_background(upright) if upright.has_transparency_data else _opaque(upright)
    before = upright.convert("RGBA") if upright.mode in ("P", "PA") else upright  # other indices may be one colour
    if _is_flat(converted) and not _is_flat(before):
        raise ValueError(f"in 8-bit RGB it would be one colour; its mode is {upright.mode}")
    return converted


def _on_background(image: Image.Image) -> Image.Image:
    layer = image.convert("RGBA")
    on_white = Image.alpha_composite(Image.new("RGBA", layer.size, WHITE), layer).convert("RGB")
    if not _is_flat(on_white):
        return on_white
    on_black = Image.alpha_composite(Image.new("RGBA", layer.size, BLACK), layer).convert("RGB")
    return on_white if _is_flat(on_black) else on_black


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _scaled(image).convert("RGB")
    if image.mode == "LAB":
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted: Any = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
        return converted  # type: ignore[no-any-return]
    return image.convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """A picture with more than 8 bits, in 8."""
    import numpy as np  # only here, so that listing the methods stays instant

    values = np.asarray(image, np.float64)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(values).all() and low >= 0):
        raise ValueError(f"its values lie between {low:g} and {high:g}, and must be finite and not negative")
    if image.mode == "F":
        white = 1 if high <= 1 else BITS_8
    else:
        # Pillow opens some files of 16 bits as 32-bit integers.
        white = BITS_16 if image.mode != "I" or image.format == "PNG" or high > BITS_8 else BITS_8
    if high > white:
        raise ValueError(f"its values reach {high:g}, and {white} is the highest that is read; scale it to 8 bits")
    return Image.fromarray((values * (BITS_8 / white)).round().astype(np.uint8))


def _is_flat(image: Image.Image) -> bool:
    """Whether all pixels are equal."""
    extrema: Any = image.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(low == high for low, high in bands)
