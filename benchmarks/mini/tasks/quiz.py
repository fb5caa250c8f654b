"""Claims about a picture, each true or false by its own coin: the drill of yes and no."""

from __future__ import annotations

import random

from benchmarks.mini.tasks import charts, figures, portraits, reading, things
from benchmarks.mini.tasks.base import Ask, Case, Exercise, Scene
from benchmarks.mini.tasks.formats import YES_NO, claim, exercise
from benchmarks.mini.tasks.studio import Studio

KINDS = ("presence", "portrait", "scene", "sides", "figure", "text", "chart")
EARLY = (0, 0, 0, 30, 50, 0, 20)
"""Two sides, a few numbers, eight colours: what has few values is compared first."""
LATE = (24, 22, 10, 6, 14, 14, 16)
RECOGNITION = "Is {x} in the image? Answer this question with Yes or No."


def quiz(studio: Studio, rng: random.Random, ease: float) -> Exercise:
    """One claim, or two, about a picture of any kind."""
    scene, asks = _subject(studio, rng, ease)
    count = rng.choice((1, 1, 2))
    cases: dict[str, Case] = {}
    for _ in range(3 * count):
        ask, true = rng.choice(asks), rng.random() < 0.5
        question = claim(ask, ask.answer if true else rng.choice(ask.wrong))
        if not question.endswith(("No.", "no.")):
            question += YES_NO
        cases.setdefault(question, Case({"question": question}, (ask.verdict(true),)))
    return exercise("lesson/quiz", scene, list(cases.values())[:count])


def _subject(studio: Studio, rng: random.Random, ease: float) -> tuple[Scene, tuple[Ask, ...]]:
    """A picture without looks, and what can be claimed about it."""
    kind = rng.choices(KINDS, LATE if rng.random() < 3 * ease - 0.6 else EARLY)[0]
    if kind == "presence":
        return _presence(studio, rng, ease)
    if kind == "portrait":
        return _portrait(studio, rng)
    if kind in ("scene", "sides"):
        scene = things.scene(studio, rng, ease) if kind == "scene" else things.sides(studio, rng, ease)
    elif kind == "figure":
        scene = rng.choice((figures.counted, figures.coloured))(rng, ease)
    elif kind == "text":
        made = rng.randrange(4)
        scene = (
            reading.word(rng, ease) if made == 0 else (reading.number, reading.card, reading.addition)[made - 1](rng)
        )
    else:
        made = rng.randrange(4)
        if made == 0:
            scene = charts.bars(rng, charts.values(rng, ease))
        else:
            scene = charts.price_list(rng) if made == 1 else (charts.table, charts.world_map)[made - 2](rng, ease)
    asks = tuple(ask for ask in scene.asks if ask.claim and ask.wrong)
    return Scene(scene.picture, scene.patches, ()), asks


def _presence(studio: Studio, rng: random.Random, ease: float) -> tuple[Scene, tuple[Ask, ...]]:
    """Things in quarters; what is there, what is not, and what is not but is of a kind with what is there."""
    count = rng.randint(1 if ease < 0.2 else 2, 4)
    chosen = studio.some_props(rng, min(count + 6, 10), ease)
    there, absent = chosen[:count], chosen[count:]
    alike = [e for e in studio.props if e not in there and any(e.type == other.type for other in there)]
    cells = dict(zip(sorted(rng.sample(range(4), count)), there, strict=True))
    canvas = things.draw(studio, rng, cells)
    wrong = tuple(e.name for e in (*absent, *rng.sample(alike, min(3, len(alike)))))
    forms = rng.choice((("Is there {a} in the image?",), ("Is there {a} in this image?",), (RECOGNITION,)))
    listing = ", ".join(entity.name for entity in cells.values())
    asks = tuple(Ask("", entity.name, wrong, form, listing) for entity in there for form in forms)
    return Scene(canvas.pixels, canvas.labels, ()), asks


def _portrait(studio: Studio, rng: random.Random) -> tuple[Scene, tuple[Ask, ...]]:
    """One thing; whether it is this or that, of this kind or that, and its facts."""
    family = rng.choices((studio.concepts, studio.countries, studio.elements), (6, 3, 2))[0]
    entity = rng.choice(family)
    scene = portraits.portrait(studio, rng, entity)
    near = [other.name for other in family if other.type == entity.type and other is not entity]
    wrong = (*scene.asks[0].wrong, *rng.sample(near, min(3, len(near))))
    name = Ask("", entity.name, wrong, scene.asks[0].claim)
    recognition = Ask("", entity.name, wrong, RECOGNITION)
    facts = [portraits.fact(studio, rng, entity, field, value) for field, value in studio.facts(entity)]
    usable = [ask for ask in (*scene.asks[1:], *facts) if ask.claim and ask.wrong]
    asks = (name, name, recognition, *rng.sample(usable, min(2, len(usable))))
    return Scene(scene.picture, scene.patches, ()), asks
