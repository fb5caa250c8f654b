"""Every way to store a picture is decoded to the same 8-bit RGB."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms

from benchmarks.errors import UserError
from benchmarks.pixels import to_rgb
from benchmarks.records import Picture


def gradient(width: int, height: int) -> np.ndarray:
    """Grey values from 0 to 255, rising to the right and, less, to the bottom."""
    across, down = np.linspace(0, 200, width), np.linspace(0, 55, height)
    return (across[None, :] + down[:, None]).round().astype(np.uint8)


def grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values).convert("RGB")


def encoded(image: Image.Image, kind: str, **options: object) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Picture(buffer.getvalue())


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores if its picture must be shown with this EXIF orientation."""
    steps: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.T,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a.T, 2),
        8: lambda a: np.rot90(a, 3),
    }
    return np.ascontiguousarray(steps[orientation](values))


STORED: dict[str, Callable[[np.ndarray], Picture]] = {
    "RGB PNG": lambda v: encoded(grey(v), "PNG"),
    "grey PNG": lambda v: encoded(Image.fromarray(v), "PNG"),
    "grey and alpha": lambda v: encoded(Image.fromarray(v).convert("LA"), "PNG"),
    "opaque RGBA": lambda v: encoded(grey(v).convert("RGBA"), "PNG"),
    "palette": lambda v: encoded(Image.fromarray(v).convert("P"), "PNG"),
    "16-bit PNG": lambda v: encoded(Image.fromarray(v.astype(np.uint16) * 257), "PNG"),
    "16-bit TIFF": lambda v: encoded(Image.fromarray(v.astype(np.uint16) * 257), "TIFF"),
    "32-bit TIFF of 16 bits": lambda v: encoded(Image.fromarray(v.astype(np.int32) * 257), "TIFF"),
    "32-bit TIFF of 8 bits": lambda v: encoded(Image.fromarray(v.astype(np.int32)), "TIFF"),
    "float TIFF, 0 to 1": lambda v: encoded(Image.fromarray(v.astype(np.float32) / 255), "TIFF"),
    "float TIFF, 0 to 255": lambda v: encoded(Image.fromarray(v.astype(np.float32)), "TIFF"),
    "CMYK TIFF": lambda v: encoded(grey(v).convert("CMYK"), "TIFF"),
    "LAB TIFF": lambda v: encoded(
        ImageCms.profileToProfile(
            grey(v), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        ),
        "TIFF",
    ),
    "lossless WebP": lambda v: encoded(grey(v), "WEBP", lossless=True),
    "animation": lambda v: encoded(grey(v), "GIF", save_all=True, append_images=[grey(255 - v)]),
}


@pytest.mark.parametrize("stored", STORED)
@settings(max_examples=6)
@given(width=st.integers(8, 40), height=st.integers(8, 40))
def test_every_mode_and_depth_shows_the_same_picture(stored, width, height):
    values = gradient(width, height)
    picture = STORED[stored](values)
    shown = np.asarray(picture.pixels(), int)
    assert picture.size == (width, height)
    assert np.abs(shown - np.asarray(grey(values), int)).max() <= (4 if stored == "LAB TIFF" else 1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_upright_whatever_the_format(kind, orientation):
    values, noted = gradient(48, 24), Image.Exif()
    noted[ExifTags.Base.Orientation] = orientation
    picture = encoded(grey(turned(values, orientation)), kind, exif=noted)
    assert picture.size == picture.pixels().size == (48, 24)
    assert np.abs(np.asarray(picture.pixels(), int) - np.asarray(grey(values), int)).mean() < 4


def test_transparent_parts_are_white_unless_the_drawing_is():
    mask = np.zeros((8, 8, 4), np.uint8)
    mask[2:6, 2:6, 3] = 255  # a black square on nothing
    black = np.asarray(encoded(Image.fromarray(mask), "PNG").pixels())
    assert black[0, 0].tolist() == [255, 255, 255]
    assert black[3, 3].tolist() == [0, 0, 0]
    mask[..., :3] = 255  # a white square on nothing
    white = np.asarray(encoded(Image.fromarray(mask), "PNG").pixels())
    assert white[0, 0].tolist() == [0, 0, 0]
    assert white[3, 3].tolist() == [255, 255, 255]


def test_a_palette_with_a_transparent_entry_is_put_on_white():
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 200, 0, 0])
    shown = np.asarray(encoded(image, "PNG", transparency=0).pixels())
    assert shown.tolist() == [[[255, 255, 255], [200, 0, 0]], [[200, 0, 0], [255, 255, 255]]]


def hidden() -> Image.Image:
    values = np.dstack([gradient(8, 8)] * 3 + [np.zeros((8, 8), np.uint8)])
    return Image.fromarray(values)


LOST = {
    "is invisible": (hidden(), "PNG", "one colour"),
    "is far too dark": (Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)), "PNG", "one colour"),
    "has negative values": (Image.fromarray(-gradient(8, 8).astype(np.int32)), "TIFF", "not negative"),
    "is not finite": (Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF", "finite"),
    "has more than 16 bits": (Image.fromarray(gradient(8, 8).astype(np.int32) << 16), "TIFF", "65535 is the highest"),
    "is a float of unknown scale": (Image.fromarray(gradient(8, 8).astype(np.float32) * 10), "TIFF", "255 is the"),
}


@pytest.mark.parametrize("case", LOST)
def test_a_picture_of_which_nothing_would_remain_is_refused(case):
    image, kind, message = LOST[case]
    with pytest.raises(UserError, match=message):
        encoded(image, kind).pixels()


def test_one_colour_stays_one_colour():
    for mode in ("RGB", "L", "P", "1", "RGBA", "I;16"):
        image = Image.new(mode, (4, 4), 0)
        if mode == "RGBA":
            image.putalpha(255)
        assert to_rgb(image).getextrema() == ((0, 0),) * 3
