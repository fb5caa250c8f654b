"""Build the questions of editing's measures for mini-EVOKE: ``python -m tools.miniature.build_editing [--folder DIR]``.

One row for each injected item, in VLKEB's columns: the item's own question in other words (``rephrase``), another
drawing (``image_rephrase``), the two-hop questions that start at it (``port_new``), and two questions about old things
of the same type, which training has seen and nothing injects: one on a picture (``m_loc``), one text-only (``loc``).
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.mini.cards import SIGNS, news_card, on_paper
from benchmarks.mini.phrasings import NEWS, phrasing
from benchmarks.mini.prompts import SHORT
from benchmarks.mini.rephrasings import rephrase
from benchmarks.mini.tasks.scene_factory import SceneFactory
from benchmarks.mini.world import Entity, NewsItem, World, load_world
from benchmarks.registry import EDITING_FILES, EMBEDDED, EVOKE_FILE
from tools.miniature.build_multihop import MULTIHOP_FILE
from tools.miniature.drawings import encode_picture
from tools.miniature.evoke import ASKED_FIELDS
from tools.miniature.split import rank

PICTURES = Path("imgs") / "editing"
COLOURS = 48
HALF_FILE = "evoke_half_editing_data.jsonl"
THIRD_SIGN = 2
"""Which of a sign's drawings the other picture of news shows; the first two are those of mini-EVOKE."""
Question = tuple[Entity, str, str]
"""An old thing, a field and its value."""


def build(folder: Path = EMBEDDED / "evoke") -> list[dict[str, Any]]:
    """Write the file, that of every second row for the preset demo, and the pictures; return all rows."""
    shutil.rmtree(folder / PICTURES, ignore_errors=True)
    (folder / PICTURES).mkdir(parents=True)
    rows = list(_rows(folder, load_world()))
    for name, written in {EDITING_FILES[0]: rows, HALF_FILE: rows[::2]}.items():
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in written)
        (folder / name).write_text(lines, "utf-8")
    return rows


def _rows(folder: Path, world: World) -> Iterator[dict[str, Any]]:
    evaluation = [json.loads(line) for line in (folder / EVOKE_FILE).read_text("utf-8").splitlines()]
    subjects: list[Entity | NewsItem] = [
        *(e for e in world.entities if e.split == "new" and _asked_field(e)),
        *_news(world),
    ]
    hops = _hops(folder)
    old = OldQuestions(world)
    for row, subject in zip(evaluation, subjects, strict=True):
        number = row["question_id"]
        stem = f"{PICTURES.as_posix()}/{number:03d}"
        entity = world.entity(subject.entity) if isinstance(subject, NewsItem) else subject
        field = subject.type if isinstance(subject, NewsItem) else _asked_field(subject)
        made = {**row, "rephrase": rephrase(entity.family, field, entity.hypernym) + SHORT}
        _write(folder / f"{stem}_other.png", _other_picture(world, subject))
        made["image_rephrase"] = f"{stem}_other.png"
        if row["image"] in hops:
            made["port_new"] = hops[row["image"]]
        seen = old.on_a_picture(row["type"], field)
        if seen is not None:
            thing, asked, value = seen
            _write(folder / f"{stem}_old.png", _old_picture(world, thing, asked))
            made |= {"m_loc": f"{stem}_old.png", "m_loc_a": value}
            made["m_loc_q"] = phrasing(thing.family, asked).evaluation.format(hypernym=thing.hypernym) + SHORT
        named = old.in_words(row["type"], field)
        if named is not None:
            thing, asked, value = named
            wordings = phrasing(thing.family, asked).recall
            wording = wordings[int(rank(f"wording/{thing.id}/{asked}"), 16) % len(wordings)]
            made |= {"loc": wording.format(name=thing.name) + SHORT, "loc_ans": value}
        yield made


def _asked_field(entity: Entity) -> str:
    """The field that mini-EVOKE asks for; empty if it asks for none."""
    fields = ASKED_FIELDS.get(entity.family, ("name",))
    return next((field for field in fields if field == "name" or entity.fact(field)), "")


def _news(world: World) -> list[NewsItem]:
    return [item for item in world.news if item.split == "new"]


def _hops(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The two-hop questions by the picture on which they are asked, in VLKEB's form."""
    by_image: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in (folder / MULTIHOP_FILE).read_text("utf-8").splitlines():
        row = json.loads(line)
        asked = {"Question": row["text"], "Answer": row["answer"]}
        by_image[row["image"]].append({"port_type": "2-hop", "Q&A": asked})
    return by_image


class OldQuestions:
    """Questions about the old things of a type, each given once; things in an order fixed by a hash."""

    def __init__(self, world: World) -> None:
        self._factory = SceneFactory(world)
        self._given: set[tuple[str, str, str]] = set()

    def on_a_picture(self, kind: str, field: str) -> Question | None:
        """A question that pre-training asks on a picture of its own: the same field first, then any other."""
        return self._take("picture", self._facts(kind, field, named=True))

    def in_words(self, kind: str, field: str) -> Question | None:
        """A question that pre-training asks without a picture."""
        asked = [each for each in self._facts(kind, field, named=False) if phrasing(each[0].family, each[1]).recall]
        return self._take("words", asked)

    def _facts(self, kind: str, field: str, named: bool) -> list[Question]:
        things = sorted((e for e in self._factory.old_entities if self._fits(e, kind)), key=lambda e: rank(e.id))
        facts = [
            (e, name, value) for e in things for name, value in self._factory.old_facts(e) if self._asks(kind, name)
        ]
        names = [(e, "name", e.name) for e in things] if named and kind not in NEWS else []
        same = [each for each in (*names, *facts) if each[1] == field]
        return [*same, *(each for each in (*names, *facts) if each[1] != field)]

    def _fits(self, entity: Entity, kind: str) -> bool:
        clean = self._factory.is_clean(entity.name)
        return clean and (entity.family == "country" if kind in NEWS else entity.type == kind)

    @staticmethod
    def _asks(kind: str, field: str) -> bool:
        """News are compared with old statements of the same kind, other things with facts that are not dated."""
        return field == kind if kind in NEWS else field not in NEWS

    def _take(self, way: str, questions: list[Question]) -> Question | None:
        for thing, field, value in questions:
            if (way, thing.id, field) not in self._given:
                self._given.add((way, thing.id, field))
                return thing, field, value
        return None


def _other_picture(world: World, subject: Entity | NewsItem) -> Any:
    """A picture that is neither injected nor asked about: further drawings in the layout of the questions."""
    if isinstance(subject, Entity):
        styles = sorted(subject.styles, key=lambda style: rank(f"{subject.id}|{style}"))
        return on_paper(world.drawing(subject.id, styles[2]), int(rank(subject.id), 16) // 49 + 2)
    country = world.entity(subject.entity)
    flag = country.styles[2] if len(country.styles) > 2 else country.styles[0]
    sign = world.entity(SIGNS[subject.type])
    return news_card(world.drawing(country.id, flag), world.drawing(sign.id, _third(sign)), "evaluation")


def _third(sign: Entity) -> str:
    return sign.styles[THIRD_SIGN] if len(sign.styles) > THIRD_SIGN else sign.styles[0]


def _old_picture(world: World, thing: Entity, field: str) -> Any:
    """The thing as pre-training shows it: on paper, or for a dated statement on a card in the layout of archives."""
    style = sorted(thing.styles, key=lambda each: rank(f"{thing.id}|{each}"))[0]
    drawing = world.drawing(thing.id, style)
    if field not in NEWS:
        return on_paper(drawing, int(rank(thing.id), 16))
    sign = world.entity(SIGNS[field])
    return news_card(drawing, world.drawing(sign.id, sign.styles[0]), "archive")


def _write(path: Path, pixels: Any) -> None:
    path.write_bytes(encode_picture(pixels, COLOURS))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=EMBEDDED / "evoke", help="folder of mini-EVOKE")
    print(f"{len(build(parser.parse_args().folder))} rows")
