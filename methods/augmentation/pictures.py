"""Pictures set upright, and mild edits that keep what they show: a closer crop, other light; never a flip."""

from __future__ import annotations

import hashlib
import io
import random
from dataclasses import dataclass
from typing import Protocol

from PIL import ExifTags, Image, ImageEnhance, ImageOps

from benchmarks.records import Picture


class Change(Protocol):
    """What is done to a picture; its text (``str``) tells it from every other."""

    def apply(self, image: Image.Image) -> Image.Image:
        """An edited copy of the same size."""


@dataclass(frozen=True)
class Edit:
    """What is done to a picture; 1 leaves brightness, contrast and colour as they are."""

    crop: tuple[float, float, float, float]
    """Shares cut off at the left, top, right and bottom, each below a tenth."""
    brightness: float
    contrast: float
    colour: float

    def apply(self, image: Image.Image) -> Image.Image:
        """An edited copy of the same size."""
        width, height = image.size
        left, top, right, bottom = self.crop
        box = (left * width, top * height, width - right * width, height - bottom * height)
        edited = image.resize(image.size, Image.Resampling.BILINEAR, box=box)
        edited = ImageEnhance.Brightness(edited).enhance(self.brightness)
        edited = ImageEnhance.Contrast(edited).enhance(self.contrast)
        return ImageEnhance.Color(edited).enhance(self.colour)


@dataclass(frozen=True)
class EditedPicture(Picture):
    """A picture that is edited when it is looked at, so that a hundred thousand of them need no memory."""

    edit: Change

    @property
    def encoded(self) -> bytes:  # not kept: see the class
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
            UserError: As for any picture.
        """
        return self.edit.apply(Picture(self.source).pixels())


def edited(picture: Picture, rng: random.Random) -> Picture:
    """The picture with an edit drawn from ``rng``."""
    left, top, right, bottom = (round(rng.uniform(0, 0.06), 4) for _ in range(4))
    light = [round(rng.uniform(0.85, 1.15), 4) for _ in range(3)]
    return EditedPicture(picture.source, Edit((left, top, right, bottom), *light))


def upright(picture: Picture) -> Picture:
    """A photograph turned as its camera noted, without the note, which not every program heeds; others as they are."""
    image = Image.open(io.BytesIO(picture.encoded))
    if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
        return picture
    buffer = io.BytesIO()
    turned = ImageOps.exif_transpose(image).convert("RGB")
    turned.save(buffer, "JPEG" if image.format == "JPEG" else "PNG", quality=95)
    return Picture(buffer.getvalue())
