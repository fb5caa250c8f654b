"""Pictures of invented things, each in several drawing styles.

A flag is drawn by rule. A thing is an emoji outside the world, or is put together from two emoji in the same artist's
style, turned and in other colours, so that its drawings differ between artists as real ones do.
"""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.mini.canvas import SIDE, Pixels, draw_shape
from benchmarks.mini.tasks.scene_factory import SceneFactory
from benchmarks.mini.world import Entity, further_drawings

FLAG_STYLES = ("rectangle", "rounded", "circle")
LAYOUTS = ("horizontal", "vertical", "cross", "nordic", "wedge", "canton", "saltire", "plain", "border", "diagonal")
TONES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((220, 20, 40), (206, 17, 38), (216, 0, 39)),
    "blue": ((0, 60, 170), (30, 80, 200), (0, 82, 180)),
    "sky": ((0, 200, 255), (117, 170, 219), (51, 138, 243)),
    "green": ((0, 130, 60), (20, 150, 70), (109, 165, 68)),
    "yellow": ((255, 215, 0), (252, 209, 22), (255, 218, 68)),
    "white": ((255, 255, 255), (238, 238, 238), (240, 240, 240)),
    "black": ((0, 0, 0), (20, 20, 20), (51, 51, 51)),
    "orange": ((255, 130, 0), (255, 153, 51), (255, 152, 17)),
    "maroon": ((138, 21, 56), (120, 30, 50), (165, 42, 42)),
    "teal": ((0, 120, 120), (20, 140, 130), (0, 150, 140)),
}
"""Colour -> its tone in each style."""
EMBLEMS = ("none", "none", "circle", "square", "triangle", "plus", "star", "crescent", "rings", "thing")


@dataclass(frozen=True)
class FlagDesign:
    """What all drawings of an invented flag share."""

    layout: str
    colours: tuple[str, ...]
    """Three or four, of which a layout uses two or three."""
    stripes: int
    emblem: str
    emblem_colour: str
    place: tuple[float, float]
    """The emblem's centre, as a share of width and height."""
    size: float
    """The emblem's height as a share of the flag's."""
    thing: Entity
    """Drawn as the emblem if it is a thing."""


def design_flag(factory: SceneFactory, rng: random.Random) -> FlagDesign:
    """A random flag."""
    colours = tuple(rng.sample(list(TONES), 4))
    return FlagDesign(
        rng.choice(LAYOUTS),
        colours,
        rng.choice((2, 3, 3, 3, 4, 5)),
        rng.choice(EMBLEMS),
        colours[3],
        rng.choice(((0.5, 0.5), (0.5, 0.5), (0.25, 0.3), (0.75, 0.55), (0.3, 0.5))),
        rng.uniform(0.3, 0.6),
        rng.choice(factory.concepts),
    )


def draw_flag(factory: SceneFactory, design: FlagDesign, style: str) -> Pixels:
    """One drawing of the flag, ``(64, 64, 4) uint8`` RGBA, transparent around it."""
    variant = FLAG_STYLES.index(style)
    big = 4 * SIDE
    height = big if style == "circle" else big * (48 - 2 * variant) // SIDE
    image = Image.new("RGB", (big, height))
    _paint(image, design, variant)
    _put_emblem(factory, image, design, variant)
    mask = Image.new("L", image.size, 0)
    outline = ImageDraw.Draw(mask)
    if style == "circle":
        outline.ellipse((0, 0, big - 1, big - 1), fill=255)
    else:
        outline.rounded_rectangle((0, 0, big - 1, height - 1), radius=22 * variant, fill=255)
    flag = Image.new("RGBA", (big, big), (0, 0, 0, 0))
    flag.paste(image, (0, (big - height) // 2), mask)
    return np.asarray(flag.resize((SIDE, SIDE), Image.Resampling.BOX))


def _paint(image: Image.Image, design: FlagDesign, variant: int) -> None:
    draw, (width, height) = ImageDraw.Draw(image), image.size
    one, two, three, *_ = (TONES[name][variant] for name in design.colours)
    draw.rectangle((0, 0, width, height), fill=one)
    if design.layout in ("horizontal", "vertical", "wedge", "canton"):
        for index in range(design.stripes):
            colour = (one, two, three)[index % 3 if design.stripes <= 3 else index % 2]
            if design.layout == "vertical":
                box = (width * index // design.stripes, 0, width * (index + 1) // design.stripes, height)
            else:
                box = (0, height * index // design.stripes, width, height * (index + 1) // design.stripes)
            draw.rectangle(box, fill=colour)
    if design.layout == "wedge":
        draw.polygon(((0, 0), (width * 2 // 5, height // 2), (0, height)), fill=three)
    elif design.layout == "canton":
        draw.rectangle((0, 0, width * 2 // 5, height // 2), fill=three)
    elif design.layout in ("cross", "nordic"):
        centre = width // 2 if design.layout == "cross" else width * 3 // 8
        for colour, half in ((two, height // 9), (three, height // 20)):
            draw.rectangle((centre - half, 0, centre + half, height), fill=colour)
            draw.rectangle((0, height // 2 - half, width, height // 2 + half), fill=colour)
    elif design.layout == "saltire":
        for line in (((0, 0), (width, height)), ((0, height), (width, 0))):
            draw.line(line, fill=two, width=height // 6)
    elif design.layout == "border":
        edge = height // 7
        draw.rectangle((edge, edge, width - edge, height - edge), fill=two)
    elif design.layout == "diagonal":
        draw.polygon(((0, height), (width, 0), (width, height)), fill=two)
        draw.line(((0, height), (width, 0)), fill=three, width=height // 8)


def _put_emblem(factory: SceneFactory, image: Image.Image, design: FlagDesign, variant: int) -> None:
    if design.emblem == "none":
        return
    side = round(design.size * image.height)
    left = round(design.place[0] * image.width - side / 2)
    top = round(design.place[1] * image.height - side / 2)
    if design.emblem == "thing":
        styles = design.thing.styles
        icon = Image.fromarray(factory.world.drawing(design.thing.id, styles[variant % len(styles)]))
        icon = icon.resize((side, side), Image.Resampling.BOX)
        image.paste(icon, (left, top), icon)
        return
    image.paste(TONES[design.emblem_colour][variant], (left, top), _emblem_mask(design.emblem, side))


def _emblem_mask(emblem: str, side: int) -> Image.Image:
    mask = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(mask)
    if emblem == "star":
        angles = np.arange(10) * np.pi / 5 - np.pi / 2
        radii = np.where(np.arange(10) % 2 == 0, 0.5, 0.2) * side
        points = np.stack([side / 2 + radii * np.cos(angles), side / 2 + radii * np.sin(angles)], 1)
        draw.polygon([(float(x), float(y)) for x, y in points], fill=255)
    elif emblem == "crescent":
        draw.ellipse((0, 0, side - 1, side - 1), fill=255)
        draw.ellipse((side // 4, side // 8, side, side * 7 // 8), fill=0)
    elif emblem == "rings":
        for share, fill in ((0, 255), (8, 0), (4, 255)):
            edge = side // share if share else 0
            draw.ellipse((edge, edge, side - 1 - edge, side - 1 - edge), fill=fill)
    else:
        mask = Image.fromarray(draw_shape(emblem, side))
    return mask


@dataclass(frozen=True)
class ThingDesign:
    """What all drawings of an invented thing share."""

    first: str
    second: str
    """Ids of the emoji that it is made of."""
    styles: tuple[str, ...]
    """Artists who drew both."""
    joint: str
    """alone (the first only), halves, stack or inset."""
    turns: int
    """Quarter turns."""
    mirrored: bool
    hue: float
    """Turn of the colour circle, from 0 to 1."""
    stretch: tuple[float, float]
    """Width and height as shares of the picture's."""


class ThingArtist:
    """Draws invented things out of old concepts and of emoji outside the world.

    Args:
        factory: The old world.
    """

    def __init__(self, factory: SceneFactory) -> None:
        concepts = {entity.id for entity in factory.concepts}
        self._pngs = {key: png for key, png in factory.world.pngs.items() if key[0] in concepts}
        self._pngs |= further_drawings()
        styles: dict[str, list[str]] = {}
        for emoji, style in sorted(self._pngs):
            styles.setdefault(emoji, []).append(style)
        self._styles = {emoji: tuple(members) for emoji, members in styles.items()}
        self._outside = sorted({emoji for emoji, _ in further_drawings()})
        self._emoji = sorted(self._styles)

    def design(self, rng: random.Random) -> ThingDesign:
        """A random thing with at least two drawings; half of them are emoji outside the world as they are."""
        if rng.random() < 0.5:
            emoji = rng.choice(self._outside)
            return ThingDesign(emoji, emoji, self._styles[emoji], "alone", 0, rng.random() < 0.5, 0.0, (1.0, 1.0))
        while True:
            first, second = rng.sample(self._emoji, 2)
            styles = tuple(style for style in self._styles[first] if style in self._styles[second])
            if len(styles) >= 2:
                break
        return ThingDesign(
            first,
            second,
            styles,
            rng.choice(("alone", "halves", "stack", "inset")),
            rng.choice((0, 0, 1, 2, 3)),
            rng.random() < 0.5,
            rng.uniform(0.15, 0.85),
            (rng.uniform(0.7, 1.0), rng.uniform(0.7, 1.0)),
        )

    def draw(self, design: ThingDesign, style: str) -> Pixels:
        """One drawing of the thing, ``(64, 64, 4) uint8`` RGBA, transparent around it."""
        parts = (self._pngs[emoji, style] for emoji in (design.first, design.second))
        first, second = (Image.open(io.BytesIO(png)).convert("RGBA") for png in parts)
        if design.joint == "halves":
            first.paste(second.crop((SIDE // 2, 0, SIDE, SIDE)), (SIDE // 2, 0))
        elif design.joint == "stack":
            first.paste(second.crop((0, SIDE // 2, SIDE, SIDE)), (0, SIDE // 2))
        elif design.joint == "inset":
            small = second.resize((30, 30), Image.Resampling.BOX)
            first.paste(small, (34, 34), small)
        size = (round(SIDE * design.stretch[0]), round(SIDE * design.stretch[1]))
        small = first.resize(size, Image.Resampling.BOX)
        image = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
        image.paste(small, ((SIDE - size[0]) // 2, (SIDE - size[1]) // 2))
        pixels = np.rot90(np.asarray(image), design.turns)
        if design.mirrored:
            pixels = pixels[:, ::-1]
        return _turn_hue(np.ascontiguousarray(pixels), design.hue)


def _turn_hue(rgba: Pixels, turn: float) -> Pixels:
    hsv = np.asarray(Image.fromarray(rgba[..., :3]).convert("HSV")).copy()
    hsv[..., 0] = (hsv[..., 0].astype(np.int32) + round(turn * 256)) % 256
    rgb = np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))
    return np.concatenate([rgb, rgba[..., 3:]], axis=-1)
