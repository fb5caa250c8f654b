"""Invented items: a thing or a piece of news with its article, its questions and its drawings. None of it is real.

Pre-training tells a model about them by articles and asks about them, so that it learns how an article answers a
question. They are new ones all the time and stand in no evaluation of the benchmarks.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from benchmarks.mini.canvas import SIDE, Pixels, jitter
from benchmarks.mini.cards import PAPER, on_paper
from benchmarks.mini.invented import articles
from benchmarks.mini.invented.names import NameGenerators
from benchmarks.mini.invented.pictures import (
    FLAG_STYLES,
    FlagDesign,
    ThingArtist,
    design_flag,
    draw_flag,
)
from benchmarks.mini.phrasings import NEWS, Phrasing, phrasing
from benchmarks.mini.prompts import SHORT
from benchmarks.mini.tasks.scene_factory import SceneFactory
from benchmarks.mini.world import Entity

SHARES = {"news": 50, "concept": 27, "country": 19, "territory": 4}
"""Families and their shares, about as in EVOKE's split into news and entities."""
ALIKE = 30.0
"""Flags whose 8 by 8 thumbnails differ by less (root mean square) look alike."""


@dataclass(frozen=True)
class InventedItem:
    """One invented thing or piece of news."""

    id: str
    name: str
    family: str
    """country, territory, concept or news."""
    hypernym: str
    prompt: str
    """Asks for the article, as EVOKE's injection questions do."""
    article: str
    facts: tuple[tuple[str, str], ...]
    """(field, value) pairs that the article states; the name is the field "name"."""
    pictures: tuple[Pixels, ...]
    """(64, 64, 3) uint8 each, every one by another artist."""

    def question(self, rng: random.Random, field: str) -> str:
        """A question for a field about the picture, in one of the wordings that pre-training uses for old knowledge."""
        ways = self._phrasing(field)
        if rng.random() < 0.5:
            return ways.evaluation.format(hypernym=self.hypernym) + SHORT
        if rng.random() < 0.6:
            return rng.choice(ways.lessons).format(hypernym=self.hypernym) + rng.choice(("", SHORT))
        return f"What is the {field} of the {self.hypernym} in the image?" + rng.choice(("", SHORT))

    def recall_question(self, rng: random.Random, field: str) -> str | None:
        """A question for a field that names the item and needs no picture; None if there is none."""
        ways = self._phrasing(field).recall
        return rng.choice(ways).format(name=self.name) if ways else None

    def _phrasing(self, field: str) -> Phrasing:
        return phrasing("country" if self.family == "news" else self.family, field)


class InventedWorld:
    """A stream of invented items that is the same for the same seed.

    Args:
        factory: The old world, whose words, values and drawings are used.
        seed: Different seeds give unrelated streams.
    """

    def __init__(self, factory: SceneFactory, seed: int) -> None:
        self._factory, self._seed = factory, seed
        self._names, self._artist = NameGenerators(factory), ThingArtist(factory)

    def item(self, index: int, kind: str = "") -> InventedItem:
        """One item.

        Args:
            index: Its place in the stream.
            kind: country, territory, concept, or a field of news; chosen by ``SHARES`` if empty.
        """
        rng = random.Random(f"invented/{self._seed}/{index}")
        kind = kind or self.kind(rng)
        key = f"invented/{kind.replace(' ', '-')}/{self._seed}-{index}"
        if kind in NEWS:
            return self._news(key, kind, rng)
        return self._thing(key, rng) if kind == "concept" else self._place(key, kind, rng)

    def drawings(self, index: int) -> tuple[Pixels, Pixels]:
        """Two drawings of one thing, three times in four, or of one flag, (64, 64, 3) uint8 each; without an item."""
        rng = random.Random(f"invented/{self._seed}/drawings/{index}")
        one, other = rng.sample(range(len(PAPER)), 2)
        if index % 4:
            thing = self._artist.design(rng)
            first, second = rng.sample(thing.styles, 2)
            return on_paper(self._artist.draw(thing, first), one), on_paper(self._artist.draw(thing, second), other)
        flag = self.design_flag(rng)
        first, second = rng.sample(FLAG_STYLES, 2)
        return on_paper(draw_flag(self._factory, flag, first), one), on_paper(
            draw_flag(self._factory, flag, second), other
        )

    @staticmethod
    def kind(rng: random.Random) -> str:
        """The kind of a random item."""
        family = rng.choices(tuple(SHARES), tuple(SHARES.values()))[0]
        return rng.choice(tuple(NEWS)) if family == "news" else family

    def _place(self, key: str, family: str, rng: random.Random) -> InventedItem:
        name = articles.capitalise(self._names.place(rng))
        facts = self._place_facts(name, family, rng)
        design = self.design_flag(rng)
        styles = rng.sample(FLAG_STYLES, len(FLAG_STYLES))
        shades = rng.sample(range(len(PAPER)), len(styles))
        drawings = [draw_flag(self._factory, design, style) for style in styles]
        pictures = tuple(on_paper(drawing, shade) for drawing, shade in zip(drawings, shades, strict=True))
        article = articles.place(name, family, facts, rng)
        prompt = f"Can you describe the {family} in the image?"
        return InventedItem(key, name, family, family, prompt, article, (("name", name), *facts), pictures)

    def _place_facts(self, name: str, family: str, rng: random.Random) -> tuple[tuple[str, str], ...]:
        def old(field: str) -> str:
            return rng.choice(self._factory.old_values["country", field])

        size = rng.choice(("thousand", "million", "million"))
        summit = articles.capitalise(self._names.summit(rng))
        facts = {
            "capital": articles.capitalise(self._names.place(rng)),
            "continent": old("continent"),
            "sovereign state": rng.choice(self._factory.old_values["territory", "sovereign state"]),
            "currency": old("currency"),
            "demonym": name.rstrip("aeiou") + rng.choice(("an", "ian", "ese", "i", "ish")),
            "highest point": rng.choice(("Mount ", "Pico ", "Mont ", "", "")) + summit,
            "independence year": str(rng.randint(1810, 1995)),
            "national symbol": old("national symbol"),
            "coast": old("coast"),
            "population": f"{rng.choice((rng.randint(10, 990), rng.randint(11, 99) / 10))} {size}",
            "internet code": "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=2)),
        }
        absent = {"independence year"} if family == "territory" else {"sovereign state"}
        optional = [field for field in facts if field not in ("capital", "continent")]
        absent |= set(rng.sample(optional, rng.randint(1, 4)))
        return tuple((field, value) for field, value in facts.items() if field not in absent)

    def design_flag(self, rng: random.Random) -> FlagDesign:
        """A flag that looks like no real one."""
        while True:
            design = design_flag(self._factory, rng)
            small = thumbnail(draw_flag(self._factory, design, "rectangle"))
            if np.sqrt(((self._real_flags - small) ** 2).mean((1, 2, 3))).min() >= ALIKE:
                return design

    @cached_property
    def _real_flags(self) -> np.ndarray:
        """(flags, 8, 8, 3) float32 thumbnails of all real flags, new ones included, so that none is drawn again."""
        world = self._factory.world
        flags = [entity for entity in world.entities if entity.family in ("country", "territory")]
        return np.stack([thumbnail(world.drawing(flag.id, style)) for flag in flags for style in flag.styles])

    def _thing(self, key: str, rng: random.Random) -> InventedItem:
        name = self._names.thing(rng)
        model = rng.choice(self._factory.described_concepts)
        kind_of = [other for other in self._factory.described_concepts if other.type == model.type]
        facts = tuple((field, self._value_like(rng, kind_of, field, value)) for field, value in model.facts)
        design = self._artist.design(rng)
        styles = rng.sample(design.styles, min(3, len(design.styles)))
        shades = rng.sample(range(len(PAPER)), len(styles))
        drawings = [self._artist.draw(design, style) for style in styles]
        pictures = tuple(on_paper(drawing, shade) for drawing, shade in zip(drawings, shades, strict=True))
        article = articles.thing(name, model.hypernym, facts, self._gloss(rng), rng)
        prompt = f"Can you describe the {model.hypernym} in the image?"
        return InventedItem(key, name, "concept", model.hypernym, prompt, article, (("name", name), *facts), pictures)

    @staticmethod
    def _value_like(rng: random.Random, others: Sequence[Entity], field: str, value: str) -> str:
        values = [other for entity in others if (other := entity.fact(field))]
        return rng.choice(values or [value])

    def _gloss(self, rng: random.Random) -> str:
        """A dictionary's definition of some old thing, which fits the invented one no better than its facts do."""
        text = rng.choice(self._factory.described_concepts).text
        return text.partition(" like this: ")[2].partition(". The drawing")[0] if rng.random() < 0.5 else ""

    def _news(self, key: str, field: str, rng: random.Random) -> InventedItem:
        country = articles.capitalise(self._names.place(rng))
        if field in ("head of state", "head of government"):
            value = articles.capitalise(self._names.person(rng))
        elif "partner" in field:
            value = rng.choice(self._factory.nations).name
        else:
            value = rng.choice(self._factory.old_values["country", field])
        year = str(rng.randint(2015, 2026))
        design = self.design_flag(rng)
        pictures = tuple(self._card(rng, design, style, field) for style in rng.sample(FLAG_STYLES, 3))
        article = articles.news(country, field, value, year, articles.capitalise(self._names.place(rng)), rng)
        prompt = f"Can you describe the {field} news that the image is about?"
        facts = ((field, value), ("name", country))
        return InventedItem(key, country, "news", "country", prompt, article, facts, pictures)

    def _card(self, rng: random.Random, design: FlagDesign, style: str, field: str) -> Pixels:
        """A framed card with the flag and the sign of the kind of news, in a random layout."""
        factory = self._factory
        background, frame = rng.choice(PAPER), tuple(rng.randint(20, 150) for _ in range(3))
        image = Image.new("RGB", (SIDE, SIDE), background)
        edge = rng.randint(1, 3)
        pixels = np.asarray(image).copy()
        pixels[:edge], pixels[-edge:], pixels[:, :edge], pixels[:, -edge:] = frame, frame, frame, frame
        image = Image.fromarray(pixels)
        sign = factory.sign(field)
        flag = Image.fromarray(draw_flag(factory, design, style)).resize((46, 46), Image.Resampling.BOX)
        image.paste(flag, (rng.randint(2, 16), rng.randint(0, 18)), flag)
        if sign is not None:
            icon = Image.fromarray(factory.random_icon(sign, rng, rng.choice((22, 24))))
            image.paste(icon, rng.choice(((3, 3), (38, 2), (38, 38), (3, 38))), icon)
        return jitter(np.asarray(image), rng)


def thumbnail(rgba: Pixels) -> np.ndarray:
    """(8, 8, 3) float32: a drawing on white, reduced."""
    small = Image.fromarray(on_paper(rgba)).resize((8, 8), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)
