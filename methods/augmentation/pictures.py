"""Edits of pictures: mild ones that keep what is shown, random transforms as a baseline, and upright photographs."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import ExifTags, Image, ImageEnhance, ImageOps

from benchmarks.records import Picture


class PictureEdit(Protocol):
    """An edit of a picture. Its ``str`` is part of the edited picture's digest."""

    def apply(self, image: Image.Image) -> Image.Image:
        """Return an edited copy of the same size."""


@dataclass(frozen=True)
class EditedPicture(Picture):
    """A picture that is edited each time it is read, so that a hundred thousand of them need no memory."""

    edit: PictureEdit

    @property
    def encoded(self) -> bytes:  # not cached: see the class
        """The edited pixels as PNG."""
        buffer = io.BytesIO()
        self.pixels().save(buffer, "PNG")
        return buffer.getvalue()

    @property
    def sha256(self) -> str:  # PNG bytes vary with the version of zlib; this does not
        """Hex digest over the original's bytes and the edit."""
        return hashlib.sha256(f"{Picture(self.source).sha256} {self.edit}".encode()).hexdigest()

    def pixels(self) -> Image.Image:
        """Decode the original to RGB and edit it.

        Raises:
            UserError: The original cannot be read.
        """
        return self.edit.apply(Picture(self.source).pixels())


@dataclass(frozen=True)
class Edit:
    """A closer crop and other light; 1 leaves brightness, contrast and colour unchanged."""

    crop: tuple[float, float, float, float]
    """Shares cut off at the left, top, right and bottom, each below a tenth."""
    brightness: float
    contrast: float
    colour: float

    def apply(self, image: Image.Image) -> Image.Image:
        """Return an edited copy of the same size."""
        width, height = image.size
        left, top, right, bottom = self.crop
        box = (left * width, top * height, width - right * width, height - bottom * height)
        edited = image.resize(image.size, Image.Resampling.BILINEAR, box=box)
        edited = ImageEnhance.Brightness(edited).enhance(self.brightness)
        edited = ImageEnhance.Contrast(edited).enhance(self.contrast)
        return ImageEnhance.Color(edited).enhance(self.colour)


def edit_mildly(picture: Picture, rng: random.Random) -> Picture:
    """Draw a mild edit that keeps what is shown: a closer crop, other light, but never a flip."""
    left, top, right, bottom = (round(rng.uniform(0, 0.06), 4) for _ in range(4))
    light = [round(rng.uniform(0.85, 1.15), 4) for _ in range(3)]
    return EditedPicture(picture.source, Edit((left, top, right, bottom), *light))


def rotate_upright(picture: Picture) -> Picture:
    """Rotate a photograph as its EXIF orientation says and drop the tag, which not every program reads."""
    image = Image.open(io.BytesIO(picture.encoded))
    if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
        return picture
    buffer = io.BytesIO()
    rotated = ImageOps.exif_transpose(image).convert("RGB")
    rotated.save(buffer, "JPEG" if image.format == "JPEG" else "PNG", quality=95)
    return Picture(buffer.getvalue())


# The baseline image augmentations, which know nothing of the knowledge. Sizes follow what is usual in contrastive
# learning, a little milder. Source: KORE, appendix on general augmentations, which names the five kinds and no sizes.


def flip(image: Image.Image, rng: random.Random) -> Image.Image:
    """Mirror left and right."""
    return ImageOps.mirror(image)


def crop(image: Image.Image, rng: random.Random) -> Image.Image:
    """Crop to 60 to 90 % of each side and scale back to the original size."""
    share = rng.uniform(0.6, 0.9)
    left, top = (rng.uniform(0, 1 - share) * side for side in image.size)
    box = (left, top, left + share * image.width, top + share * image.height)
    return image.resize(image.size, Image.Resampling.BILINEAR, box=box)


def rotate(image: Image.Image, rng: random.Random) -> Image.Image:
    """Rotate by 5 to 20 degrees either way; corners take the colour at the middle of the top edge."""
    degrees = rng.choice((-1, 1)) * rng.uniform(5, 20)
    background = image.getpixel((image.width // 2, 0))
    return image.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=background)


def recolour(image: Image.Image, rng: random.Random) -> Image.Image:
    """Change brightness, contrast and saturation, each by a factor of 0.6 to 1.4."""
    for enhancer in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhancer(image).enhance(rng.uniform(0.6, 1.4))
    return image


def add_noise(image: Image.Image, rng: random.Random) -> Image.Image:
    """Add Gaussian noise with a standard deviation of 10 to 25 of 255."""
    generator = np.random.default_rng(rng.getrandbits(32))
    noise = generator.normal(0, rng.uniform(10, 25), (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image, float) + noise, 0, 255).astype(np.uint8))


TRANSFORMS: Mapping[str, Callable[[Image.Image, random.Random], Image.Image]] = {
    "flip": flip,
    "crop": crop,
    "rotation": rotate,
    "colour": recolour,
    "noise": add_noise,
}


@dataclass(frozen=True)
class RandomTransform:
    """One of ``TRANSFORMS``, drawn from a seed."""

    kind: str
    seed: int

    def apply(self, image: Image.Image) -> Image.Image:
        """Return a transformed copy of the same size."""
        return TRANSFORMS[self.kind](image, random.Random(self.seed))


def transform(picture: Picture, kind: str, rng: random.Random) -> Picture:
    """Apply one of ``TRANSFORMS``, with a seed drawn from ``rng``."""
    return EditedPicture(picture.source, RandomTransform(kind, rng.getrandbits(64)))
