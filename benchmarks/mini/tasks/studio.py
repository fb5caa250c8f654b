"""The old world as the tasks use it: cached drawings, chosen vocabularies, and the names that must not be said."""

from __future__ import annotations

import random
import re
from functools import cached_property

from benchmarks.mini.canvas import Pixels, resized
from benchmarks.mini.cards import SIGNS
from benchmarks.mini.phrasings import NEWS, SUFFIX, phrasing
from benchmarks.mini.world import Entity, World

SCENE_CONCEPTS = 60
KINDS = ("animal", "fruit", "vegetable", "plant", "dish", "drink", "vehicle", "clothing", "instrument", "building")
"""Types of concepts that exclude one another; a concept of another type is called an object."""
AWKWARD = frozenset({"coast", "population", "use", "route", "material", "place of growth", "sovereign state"})
"""Fields of which "What is the {field} of ...?" is no good English."""
FAVOURITES = """
dog cat horse cow pig rabbit mouse lion tiger elephant camel giraffe bear panda monkey penguin owl duck eagle snake
turtle fish whale octopus crab butterfly snail frog apple banana pear peach lemon strawberry watermelon pineapple
tomato carrot
pizza hamburger egg cookie cup tree cactus rose sunflower tulip mushroom car bus truck bicycle
airplane rocket boat train tractor guitar violin trumpet drum piano clock key lock hammer axe umbrella book bell balloon
candle camera telephone television lamp chair bed hat crown shirt shoe sock glove dress backpack anchor magnet ladder
pencil envelope gift trophy house castle tent volcano moon sun cloud snowman
"""
"""Common things, the first to stand in scenes if they are old."""


class SceneFactory:
    """Everything old that a picture or question may hold.

    Args:
        world: The embedded world.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.old = world.old()
        self._icons: dict[tuple[str, str, int], Pixels] = {}

    @cached_property
    def unspoken(self) -> tuple[str, ...]:
        """The names of new and tuning entities, longest first, without those that an old one bears too."""
        old = {entity.name.lower() for entity in self.old}
        names = {entity.name for entity in self.world.entities if entity.split != "old"}
        return tuple(sorted((name for name in names if name.lower() not in old), key=lambda name: (-len(name), name)))

    @cached_property
    def forbidden(self) -> re.Pattern[str]:
        """Matches any unspoken name as a whole word, in any case."""
        choices = "|".join(map(re.escape, self.unspoken))
        return re.compile(rf"(?<!\w)(?:{choices})(?!\w)" if choices else r"(?!)", re.IGNORECASE)

    def clean(self, text: str) -> bool:
        """Whether the text names nothing new."""
        return not self.forbidden.search(text)

    @cached_property
    def concepts(self) -> tuple[Entity, ...]:
        """All old concepts."""
        return tuple(entity for entity in self.old if entity.family == "concept" and self.clean(entity.name))

    @cached_property
    def countries(self) -> tuple[Entity, ...]:
        """All old countries and territories."""
        return tuple(e for e in self.old if e.family in ("country", "territory") and self.clean(e.name))

    @cached_property
    def elements(self) -> tuple[Entity, ...]:
        """All old chemical elements."""
        return tuple(entity for entity in self.old if entity.family == "element" and self.clean(entity.name))

    @cached_property
    def nations(self) -> tuple[Entity, ...]:
        """The old countries without the territories."""
        return tuple(entity for entity in self.countries if entity.family == "country")

    @cached_property
    def props(self) -> tuple[Entity, ...]:
        """The concepts that stand in scenes, common ones first, none's name within another's."""
        by_name = {entity.name.lower(): entity for entity in self.concepts}
        mass = {"bread", "cheese", "coffee", "rice", "money", "soap", "milk", "ice", "fire"}
        ranked = [by_name[name] for name in FAVOURITES.split() if name in by_name]
        short = [e for e in self.concepts if re.fullmatch(r"[a-z]{3,10}", e.name) and not e.name.endswith("s")]
        short = [entity for entity in short if entity.name not in mass]
        chosen: list[Entity] = []
        for entity in ranked + short:
            low = entity.name.lower()
            if not any(low in other.name.lower() or other.name.lower() in low for other in chosen):
                chosen.append(entity)
        return tuple(chosen[:SCENE_CONCEPTS])

    def some_props(self, rng: random.Random, count: int, ease: float) -> list[Entity]:
        """Different concepts for one scene, from a pool that grows from 12 to all as ``ease`` rises to 0.5."""
        pool = round(12 + (len(self.props) - 12) * min(1.0, 2 * ease))
        return rng.sample(self.props[: max(pool, count)], count)

    def icon(self, entity: Entity, style: str, side: int) -> Pixels:
        """A drawing at the given size, ``(side, side, 4) uint8`` RGBA, kept for the next time."""
        key = (entity.id, style, side)
        if key not in self._icons:
            self._icons[key] = resized(self.world.drawing(entity.id, style), side)
        return self._icons[key]

    def any_icon(self, entity: Entity, rng: random.Random, side: int) -> Pixels:
        """The entity in any of its drawings."""
        return self.icon(entity, rng.choice(entity.styles), side)

    @cached_property
    def values(self) -> dict[tuple[str, str], list[str]]:
        """(family, field) -> the different values that old entities have there."""
        found: dict[tuple[str, str], dict[str, None]] = {}
        for entity in self.old:
            for field, value in entity.facts:
                if self.clean(value):
                    found.setdefault((entity.family, field), {})[value] = None
        return {key: sorted(values) for key, values in found.items()}

    def facts(self, entity: Entity) -> list[tuple[str, str]]:
        """The entity's facts that name nothing new."""
        return [(field, value) for field, value in entity.facts if self.clean(value)]

    @staticmethod
    def kind(entity: Entity) -> str:
        """What kind of thing it is, in words that exclude one another: a type of ``KINDS``, a family, or "object"."""
        if entity.family != "concept":
            return entity.family
        return entity.type if entity.type in KINDS and entity.hypernym != "fungus" else "object"

    @staticmethod
    def asked(entity: Entity, field: str) -> str:
        """The question for a field in a benchmark row: the plain one where it is good English."""
        if field in AWKWARD or field in NEWS:
            return phrasing(entity.family, field).evaluation.format(hypernym=entity.hypernym)
        return SceneFactory.question(entity, field)

    @staticmethod
    def question(entity: Entity, field: str) -> str:
        """The plain question for a field of what the picture shows."""
        return f"What is the {field} of the {entity.hypernym} in the image?"

    def phrased(self, rng: random.Random, entity: Entity, field: str) -> str:
        """A question for a field ("name" for the name): as mini-EVOKE evaluates, as lessons vary it, or plain."""
        ways = phrasing(entity.family, field)
        draw = rng.random()
        if draw < 0.4:
            return ways.evaluation.format(hypernym=entity.hypernym) + SUFFIX
        if draw < 0.7:
            return rng.choice(ways.lessons).format(hypernym=entity.hypernym) + rng.choice(("", SUFFIX))
        return self.question(entity, field) + rng.choice(("", SUFFIX))

    def recalled(self, rng: random.Random, entity: Entity, field: str) -> str:
        """A question for a field that names the entity and needs no picture."""
        ways = phrasing(entity.family, field).recall
        if not ways or rng.random() < 0.3:
            return f"What is the {field} of {entity.name}?"
        return rng.choice(ways).format(name=entity.name)

    @cached_property
    def reported(self) -> tuple[tuple[Entity, str, str], ...]:
        """(old country, field, value) for each dated statement that is old."""
        return tuple((e, field, value) for e in self.nations for field, value in self.facts(e) if field in NEWS)

    def sign(self, field: str) -> Entity | None:
        """The old concept that stands on cards for a kind of dated statement."""
        return next((entity for entity in self.concepts if entity.id == SIGNS[field]), None)

    @cached_property
    def told(self) -> tuple[Entity, ...]:
        """The old entities whose text names nothing new."""
        return tuple(entity for entity in self.old if self.clean(entity.text) and self.clean(entity.name))
