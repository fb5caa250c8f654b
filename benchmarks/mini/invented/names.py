"""Names of invented things: letter by letter like the old names of their kind, but equal to no real one."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from functools import cached_property

from benchmarks.mini.tasks.scene_factory import SceneFactory
from benchmarks.mini.world import World

ORDER = 2
"""Letters that determine the next one."""
SHORTEST, LONGEST = 4, 12
"""Length of a word of a name, in letters."""
_END = "\n"


class NameGenerator:
    """A Markov chain of letters.

    Args:
        examples: Names whose words are imitated.
        taken: Lower-case names and words that no generated name may be.
    """

    def __init__(self, examples: Iterable[str], taken: frozenset[str]) -> None:
        self._taken = taken
        self._following: dict[str, list[str]] = {}
        for name in examples:
            for word in re.findall(r"[a-z]{3,}", name.lower()):
                padded = "^" * ORDER + word + _END
                for end in range(ORDER, len(padded)):
                    self._following.setdefault(padded[end - ORDER : end], []).append(padded[end])

    def __call__(self, rng: random.Random) -> str:
        """One new lower-case word."""
        while True:
            state, letters = "^" * ORDER, ""
            while len(letters) <= LONGEST and (letter := rng.choice(self._following[state])) != _END:
                letters += letter
                state = (state + letter)[-ORDER:]
            if SHORTEST <= len(letters) <= LONGEST and letters not in self._taken:
                return letters


class NameGenerators:
    """The generators of every kind of name.

    Args:
        factory: The old world, whose names are imitated.
    """

    def __init__(self, factory: SceneFactory) -> None:
        self._factory = factory
        self._taken = real_names(factory.world)

    @cached_property
    def place(self) -> NameGenerator:
        """Countries, territories and cities."""
        return self._like([entity.name for entity in self._factory.countries] + self._values("capital"))

    @cached_property
    def summit(self) -> NameGenerator:
        """Summits, without a word such as Mount."""
        return self._like(self._values("highest point"))

    @cached_property
    def person(self) -> NameGenerator:
        """Family names of leaders."""
        return self._like(self._values("head of state") + self._values("head of government"))

    @cached_property
    def thing(self) -> NameGenerator:
        """Things with a drawing."""
        return self._like([entity.name for entity in self._factory.concepts])

    @cached_property
    def element(self) -> NameGenerator:
        """Chemical elements."""
        return self._like([entity.name for entity in self._factory.elements])

    def _values(self, field: str) -> list[str]:
        return [*self._factory.old_values.get(("country", field), ()), *self._territory_values(field)]

    def _territory_values(self, field: str) -> Sequence[str]:
        return self._factory.old_values.get(("territory", field), ())

    def _like(self, examples: Iterable[str]) -> NameGenerator:
        return NameGenerator(examples, self._taken)


def real_names(world: World) -> frozenset[str]:
    """Lower-case names, titles and values of the whole world, new and tuning parts included, and their words."""
    texts = [text for entity in world.entities for text in (entity.name, *(value for _, value in entity.facts))]
    texts += [text for item in world.news for text in (item.title, *(value for _, value in item.facts))]
    return frozenset(text.lower() for text in texts) | {
        word for text in texts for word in re.findall(r"[a-z]+", text.lower())
    }
