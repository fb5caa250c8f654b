"""The baseline image augmentations that know nothing of the knowledge: flip, crop, rotation, colour, noise.

Sizes follow what is usual in contrastive learning, a little milder. Source: KORE, appendix on general augmentations,
names the five kinds and no sizes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from benchmarks.records import Picture
from methods.augmentation.pictures import EditedPicture

Edit = Callable[[Image.Image, random.Random], Image.Image]


def flip(image: Image.Image, draw: random.Random) -> Image.Image:
    """Left and right change sides."""
    return ImageOps.mirror(image)


def crop(image: Image.Image, draw: random.Random) -> Image.Image:
    """A part of 60 to 90 % of each side, brought back to the whole size."""
    share = draw.uniform(0.6, 0.9)
    left, top = (draw.uniform(0, 1 - share) * side for side in image.size)
    box = (left, top, left + share * image.width, top + share * image.height)
    return image.resize(image.size, Image.Resampling.BILINEAR, box=box)


def rotate(image: Image.Image, draw: random.Random) -> Image.Image:
    """By 5 to 20 degrees either way; the corners take the colour of the middle of the top edge."""
    degrees = draw.choice((-1, 1)) * draw.uniform(5, 20)
    ground = image.getpixel((image.width // 2, 0))
    return image.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=ground)


def colour(image: Image.Image, draw: random.Random) -> Image.Image:
    """Brightness, contrast and saturation each by a factor of 0.6 to 1.4."""
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = kind(image).enhance(draw.uniform(0.6, 1.4))
    return image


def noise(image: Image.Image, draw: random.Random) -> Image.Image:
    """Gaussian, with a deviation of 10 to 25 of 255."""
    rng = np.random.default_rng(draw.getrandbits(32))
    spread = rng.normal(0, draw.uniform(10, 25), (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(image, float) + spread, 0, 255).astype(np.uint8))


EDITS: Mapping[str, Edit] = {"flip": flip, "crop": crop, "rotation": rotate, "colour": colour, "noise": noise}


@dataclass(frozen=True)
class RandomTransform:
    """One of ``EDITS``, drawn from a seed."""

    kind: str
    seed: int

    def apply(self, image: Image.Image) -> Image.Image:
        """An edited copy of the same size."""
        return EDITS[self.kind](image, random.Random(self.seed))


def edited_picture(picture: Picture, kind: str, draw: random.Random) -> Picture:
    """The picture after one of ``EDITS``, edited when it is looked at."""
    return EditedPicture(picture.source, RandomTransform(kind, draw.getrandbits(64)))
