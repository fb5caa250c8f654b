"""The embedded world: real entities with facts and pictures, split into old, new and tuning knowledge.

Built from permissively licensed packages by ``python -m tools.miniature.build_world``; see DATA_CARD.md and NOTICE.md.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.errors import UserError
from benchmarks.mini.canvas import Pixels

DATA = Path(__file__).parent / "data"
FURTHER = "further_drawings.parquet"
Split = Literal["old", "new", "tuning"]
Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Entity:
    """A country, territory, concept or chemical element."""

    id: str
    """Such as "country/ghana"."""
    name: str
    family: str
    """country, territory, concept or element."""
    type: str
    """Fine-grained: country, territory, animal, food, plant, vehicle, clothing, instrument, element, ..."""
    hypernym: str
    """The word that questions use: country, animal, fruit, element, ..."""
    facts: Facts
    """(field, value) pairs; each field occurs at most once."""
    text: str
    """A short article of 25 to 80 words that states every fact."""
    split: Split
    styles: tuple[str, ...]
    """The available drawings, see ``World.drawing``."""

    def fact(self, field: str) -> str | None:
        """The value of a field, or None if it is unknown."""
        return dict(self.facts).get(field)


@dataclass(frozen=True)
class NewsItem:
    """A dated statement about an old entity; only the fact is new, never the subject."""

    id: str
    """Such as "news/export-partner/ghana"."""
    title: str
    type: str
    """head of state, head of government, export partner, ..."""
    entity: str
    """Id of the old entity."""
    text: str
    """25 to 80 words that contain the answer verbatim."""
    facts: Facts
    split: Split


@dataclass(frozen=True)
class World:
    """All entities and news with their drawings.

    Args:
        entities: In a fixed order.
        news: In a fixed order.
        pngs: (entity id, style) -> PNG bytes.
    """

    entities: tuple[Entity, ...]
    news: tuple[NewsItem, ...]
    pngs: Mapping[tuple[str, str], bytes]

    def old(self) -> tuple[Entity, ...]:
        """The entities that pre-training may use."""
        return self.of("old")

    def of(self, split: Split) -> tuple[Entity, ...]:
        """The entities of one split."""
        return tuple(entity for entity in self.entities if entity.split == split)

    def entity(self, entity_id: str) -> Entity:
        """The entity with this id.

        Raises:
            KeyError: The id is unknown.
        """
        return {entity.id: entity for entity in self.entities}[entity_id]

    def drawing(self, entity_id: str, style: str) -> Pixels:
        """One drawing as ``(64, 64, 4) uint8`` RGBA, transparent around icons and flags.

        Raises:
            KeyError: The entity has no drawing in that style.
        """
        with Image.open(io.BytesIO(self.pngs[entity_id, style])) as image:
            return np.asarray(image.convert("RGBA"))


@cache
def load_world() -> World:
    """Read the embedded world; cached.

    Raises:
        UserError: A data file is missing or damaged.
    """
    try:
        raw = json.loads((DATA / "world.json").read_text("utf-8"))
        table = pq.read_table(DATA / "drawings.parquet")
    except (OSError, ValueError) as error:
        raise UserError(
            f"the embedded world cannot be read ({error})", location=str(DATA), hint="install the package again"
        ) from error
    return build_world(raw, _pngs(table))


@cache
def further_drawings() -> Mapping[tuple[str, str], bytes]:
    """(code point, style) -> PNG of emoji outside the world, which have no names here; cached.

    Raises:
        UserError: The data file is missing or damaged.
    """
    try:
        return _pngs(pq.read_table(DATA / FURTHER))
    except (OSError, ValueError) as error:
        raise UserError(
            f"the further drawings cannot be read ({error})", location=str(DATA / FURTHER), hint="install it again"
        ) from error


def _pngs(table: pa.Table) -> dict[tuple[str, str], bytes]:
    keys = zip(table["entity"].to_pylist(), table["style"].to_pylist(), strict=True)
    return dict(zip(keys, table["png"].to_pylist(), strict=True))


def build_world(raw: Mapping[str, Any], pngs: Mapping[tuple[str, str], bytes]) -> World:
    """Build a world from the content of world.json and (entity id, style) -> PNG bytes."""
    return World(
        entities=tuple(Entity(**_tuples(row, "facts", "styles")) for row in raw["entities"]),
        news=tuple(NewsItem(**_tuples(row, "facts")) for row in raw["news"]),
        pngs=pngs,
    )


def _tuples(row: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Convert the named JSON lists, and the lists in them, to tuples."""
    frozen = {key: tuple(tuple(v) if isinstance(v, list) else v for v in row[key]) for key in keys}
    return {**row, **frozen}
