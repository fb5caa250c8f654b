"""The old world for tasks: cached drawings, vocabularies, and the names that no lesson may mention."""

from __future__ import annotations

import random
import re
from functools import cached_property

from benchmarks.mini.canvas import Pixels, resize
from benchmarks.mini.cards import SIGNS
from benchmarks.mini.phrasings import NEWS, phrasing
from benchmarks.mini.prompts import SHORT
from benchmarks.mini.world import Entity, World

SCENE_CONCEPTS = 60
KINDS = ("animal", "fruit", "vegetable", "plant", "dish", "drink", "vehicle", "clothing", "instrument", "building")
"""Mutually exclusive types of concepts; a concept of another type is called an object."""
AWKWARD = frozenset({"coast", "population", "use", "route", "material", "place of growth", "sovereign state"})
"""Fields for which "What is the {field} of ...?" is not good English."""
FAVOURITES = """
dog cat horse cow pig rabbit mouse lion tiger elephant camel giraffe bear panda monkey penguin owl duck eagle snake
turtle fish whale octopus crab butterfly snail frog apple banana pear peach lemon strawberry watermelon pineapple
tomato carrot
pizza hamburger egg cookie cup tree cactus rose sunflower tulip mushroom car bus truck bicycle
airplane rocket boat train tractor guitar violin trumpet drum piano clock key lock hammer axe umbrella book bell balloon
candle camera telephone television lamp chair bed hat crown shirt shoe sock glove dress backpack anchor magnet ladder
pencil envelope gift trophy house castle tent volcano moon sun cloud snowman
"""
"""Common things, which scenes use first if they are old."""


class SceneFactory:
    """Everything old that a picture or question may contain.

    Args:
        world: The embedded world.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.old_entities = world.old()
        self._icons: dict[tuple[str, str, int], Pixels] = {}

    @cached_property
    def unseen_names(self) -> tuple[str, ...]:
        """The names of new and tuning entities, longest first, except those that are also an old entity's name."""
        old = {entity.name.lower() for entity in self.old_entities}
        names = {entity.name for entity in self.world.entities if entity.split != "old"}
        return tuple(sorted((name for name in names if name.lower() not in old), key=lambda name: (-len(name), name)))

    @cached_property
    def unseen_pattern(self) -> re.Pattern[str]:
        """Matches any unseen name as a whole word, ignoring case."""
        choices = "|".join(map(re.escape, self.unseen_names))
        return re.compile(rf"(?<!\w)(?:{choices})(?!\w)" if choices else r"(?!)", re.IGNORECASE)

    def is_clean(self, text: str) -> bool:
        """Whether the text mentions no unseen name."""
        return not self.unseen_pattern.search(text)

    @cached_property
    def concepts(self) -> tuple[Entity, ...]:
        """All old concepts."""
        return tuple(
            entity for entity in self.old_entities if entity.family == "concept" and self.is_clean(entity.name)
        )

    @cached_property
    def countries(self) -> tuple[Entity, ...]:
        """All old countries and territories."""
        return tuple(e for e in self.old_entities if e.family in ("country", "territory") and self.is_clean(e.name))

    @cached_property
    def elements(self) -> tuple[Entity, ...]:
        """All old chemical elements."""
        return tuple(
            entity for entity in self.old_entities if entity.family == "element" and self.is_clean(entity.name)
        )

    @cached_property
    def nations(self) -> tuple[Entity, ...]:
        """The old countries without the territories."""
        return tuple(entity for entity in self.countries if entity.family == "country")

    @cached_property
    def scene_concepts(self) -> tuple[Entity, ...]:
        """The concepts that scenes use, common ones first; no name contains another."""
        by_name = {entity.name.lower(): entity for entity in self.concepts}
        mass = {"bread", "cheese", "coffee", "rice", "money", "soap", "milk", "ice", "fire"}
        ranked = [by_name[name] for name in FAVOURITES.split() if name in by_name]
        short = [e for e in self.concepts if re.fullmatch(r"[a-z]{3,10}", e.name) and not e.name.endswith("s")]
        short = [entity for entity in short if entity.name not in mass]
        chosen: list[Entity] = []
        for entity in ranked + short:
            lower = entity.name.lower()
            if not any(lower in other.name.lower() or other.name.lower() in lower for other in chosen):
                chosen.append(entity)
        return tuple(chosen[:SCENE_CONCEPTS])

    def sample_concepts(self, rng: random.Random, count: int, difficulty: float) -> list[Entity]:
        """Different concepts for one scene, from a pool that grows from 12 to all as ``difficulty`` rises to 0.5."""
        pool = round(12 + (len(self.scene_concepts) - 12) * min(1.0, 2 * difficulty))
        return rng.sample(self.scene_concepts[: max(pool, count)], count)

    def icon(self, entity: Entity, style: str, side: int) -> Pixels:
        """A drawing at the given size, ``(side, side, 4) uint8`` RGBA, cached."""
        key = (entity.id, style, side)
        if key not in self._icons:
            self._icons[key] = resize(self.world.drawing(entity.id, style), side)
        return self._icons[key]

    def random_icon(self, entity: Entity, rng: random.Random, side: int) -> Pixels:
        """A random drawing of the entity."""
        return self.icon(entity, rng.choice(entity.styles), side)

    @cached_property
    def old_values(self) -> dict[tuple[str, str], list[str]]:
        """(family, field) -> the different values of old entities."""
        values: dict[tuple[str, str], set[str]] = {}
        for entity in self.old_entities:
            for field, value in entity.facts:
                if self.is_clean(value):
                    values.setdefault((entity.family, field), set()).add(value)
        return {key: sorted(members) for key, members in values.items()}

    def old_facts(self, entity: Entity) -> list[tuple[str, str]]:
        """The entity's facts that mention no unseen name."""
        return [(field, value) for field, value in entity.facts if self.is_clean(value)]

    @staticmethod
    def kind(entity: Entity) -> str:
        """The kind of thing, in mutually exclusive words: a type of ``KINDS``, a family, or "object"."""
        if entity.family != "concept":
            return entity.family
        return entity.type if entity.type in KINDS and entity.hypernym != "fungus" else "object"

    @staticmethod
    def benchmark_question(entity: Entity, field: str) -> str:
        """The question for a field in a benchmark row: the plain one if it is good English."""
        if field in AWKWARD or field in NEWS:
            return phrasing(entity.family, field).evaluation.format(hypernym=entity.hypernym)
        return SceneFactory.plain_question(entity, field)

    @staticmethod
    def plain_question(entity: Entity, field: str) -> str:
        """The plain question for a field of the entity in the picture."""
        return f"What is the {field} of the {entity.hypernym} in the image?"

    def varied_question(self, rng: random.Random, entity: Entity, field: str) -> str:
        """A question for a field ("name" for the name): in mini-EVOKE's phrasing, a phrasing of lessons, or plain."""
        ways = phrasing(entity.family, field)
        draw = rng.random()
        if draw < 0.4:
            return ways.evaluation.format(hypernym=entity.hypernym) + SHORT
        if draw < 0.7:
            return rng.choice(ways.lessons).format(hypernym=entity.hypernym) + rng.choice(("", SHORT))
        return self.plain_question(entity, field) + rng.choice(("", SHORT))

    def recall_question(self, rng: random.Random, entity: Entity, field: str) -> str:
        """A question for a field that names the entity and needs no picture."""
        ways = phrasing(entity.family, field).recall
        if not ways or rng.random() < 0.3:
            return f"What is the {field} of {entity.name}?"
        return rng.choice(ways).format(name=entity.name)

    @cached_property
    def old_statements(self) -> tuple[tuple[Entity, str, str], ...]:
        """(old country, field, value) for each dated statement that is old."""
        return tuple((e, field, value) for e in self.nations for field, value in self.old_facts(e) if field in NEWS)

    def sign(self, field: str) -> Entity | None:
        """The old concept that represents a kind of dated statement on cards."""
        return next((entity for entity in self.concepts if entity.id == SIGNS[field]), None)

    @cached_property
    def described(self) -> tuple[Entity, ...]:
        """The old entities whose text mentions no unseen name."""
        return tuple(
            entity for entity in self.old_entities if self.is_clean(entity.text) and self.is_clean(entity.name)
        )

    @cached_property
    def described_concepts(self) -> tuple[Entity, ...]:
        """The concepts among the described entities."""
        return tuple(entity for entity in self.described if entity.family == "concept")
